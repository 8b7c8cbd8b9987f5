"use strict";

// Draws /openapi.json. All text is put in as text, never as markup.
function make(tag, attributes, ...content) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...content.filter((part) => part !== null && part !== undefined));
  return node;
}

function resolve(spec, schema) {
  return schema && schema.$ref ? spec.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((item) => JSON.stringify(item)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return typeOf(schema.items) + "[]";
  return schema.type || "any";
}

function example(spec, schema, depth = 0) {
  const found = resolve(spec, schema) || {};
  if ("default" in found) return found.default;
  if (found.enum) return found.enum[0];
  if (found.anyOf) return example(spec, found.anyOf[0], depth);
  if (found.type === "object" && depth < 4) {
    const made = {};
    for (const name of found.required || []) made[name] = example(spec, found.properties[name], depth + 1);
    return made;
  }
  return { string: "text", integer: 1, number: 1, boolean: true, array: [] }[found.type] ?? null;
}

function members(spec, schema) {
  const found = resolve(spec, schema);
  if (!found || !found.properties) return make("p", {}, make("code", {}, typeOf(schema)));
  const table = make("table", {});
  for (const [name, kind] of Object.entries(found.properties)) {
    const needed = (found.required || []).includes(name) ? "required" : "";
    table.append(make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, typeOf(kind)), make("td", {}, needed)));
  }
  return table;
}

function tryOut(spec, method, path, operation) {
  const fields = {};
  const box = make("div", {}, make("h4", {}, "Try it"));
  for (const parameter of operation.parameters || []) {
    fields[parameter.name] = make("input", { placeholder: typeOf(parameter.schema) });
    box.append(make("p", {}, make("label", {}, parameter.name + " ", fields[parameter.name])));
  }
  let body = null;
  if (operation.requestBody) {
    const json = operation.requestBody.content["application/json"];
    body = json ? make("textarea", {}) : make("input", { type: "file" });
    if (json) body.value = JSON.stringify(example(spec, json.schema), null, 2);
    box.append(body);
  }
  const out = make("pre", {});
  out.hidden = true;
  const send = make("button", {}, "Send");
  send.addEventListener("click", async () => {
    let url = path;
    const query = new URLSearchParams();
    for (const parameter of operation.parameters || []) {
      const value = fields[parameter.name].value;
      if (parameter.in === "path") url = url.replace("{" + parameter.name + "}", encodeURIComponent(value));
      else if (value) query.set(parameter.name, value);
    }
    const headers = {};
    const token = document.getElementById("token").value;
    if (token && operation.security) headers.Authorization = "Bearer " + token;
    const file = body && body.type === "file" ? body.files[0] || new Blob() : null;
    if (body) headers["Content-Type"] = file ? "application/octet-stream" : "application/json";
    out.hidden = false;
    try {
      const answer = await fetch(url + (query.size ? "?" + query : ""), { method: method.toUpperCase(), headers, body: file || (body ? body.value : undefined) });
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { shown = text; }
      out.textContent = answer.status + " " + answer.statusText + "\n" + shown;
    } catch (error) {
      out.textContent = String(error);
    }
  });
  box.append(make("p", {}, send), out);
  return box;
}

function operationOf(spec, path, method, operation) {
  const details = make("details", {},
    make("summary", {}, make("span", { class: "method " + method }, method.toUpperCase()), make("span", { class: "path" }, path),
      make("span", {}, operation.summary || ""), operation.security ? make("span", { class: "lock" }, "needs a token") : null));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const inside = make("div", {});
    if (operation.parameters) {
      const table = make("table", {});
      for (const parameter of operation.parameters) {
        table.append(make("tr", {}, make("td", {}, make("code", {}, parameter.name)), make("td", {}, parameter.in), make("td", {}, typeOf(parameter.schema)), make("td", {}, parameter.required ? "required" : "")));
      }
      inside.append(make("h4", {}, "Parameters"), table);
    }
    if (operation.requestBody) {
      const json = operation.requestBody.content["application/json"];
      inside.append(make("h4", {}, "Body"), json ? members(spec, json.schema) : make("p", {}, Object.keys(operation.requestBody.content).join(" or ")));
    }
    for (const [status, response] of Object.entries(operation.responses)) {
      if (status >= "300") continue;
      const content = response.content && response.content["application/json"];
      inside.append(make("h4", {}, "Answer " + status), content ? members(spec, content.schema) : make("p", {}, "no body"));
    }
    const refusals = make("table", {});
    for (const [status, response] of Object.entries(operation.responses)) {
      if (status >= "300") refusals.append(make("tr", {}, make("td", {}, status), make("td", {}, response.description)));
    }
    inside.append(make("h4", {}, "Refusals (problem+json)"), refusals, tryOut(spec, method, path, operation));
    details.append(inside);
  });
  return details;
}

async function draw() {
  const spec = await (await fetch("/openapi.json")).json();
  document.getElementById("summary").textContent = spec.info.summary;
  document.getElementById("version").textContent = "version " + spec.info.version;
  const groups = new Map();
  for (const [path, operations] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationOf(spec, path, method, operation));
    }
  }
  const main = document.getElementById("paths");
  for (const [tag, shown] of groups) main.append(make("h2", {}, tag), ...shown);
}

draw();
