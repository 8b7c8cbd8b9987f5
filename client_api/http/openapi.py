"""The OpenAPI 3.1 document, made from the endpoint declarations, and the page that shows it.

The page is this package's own: it loads nothing from anywhere but this server.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import msgspec
from aiohttp import web

from client_api.http.endpoint import Endpoint, declared
from client_api.http.errors import HTTP_KINDS, KINDS, PROBLEM_JSON, Problem

ALWAYS: Final = (400, 408, 421, 429, 503)
WITH_BODY: Final = (413, 415)
_PAGE: Final = {"docs.html": "text/html", "docs.js": "text/javascript", "docs.css": "text/css"}
_CSP: Final = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def document(groups: Sequence[object], version: str, server: str) -> dict[str, Any]:
    """The OpenAPI document of the endpoints of ``groups``."""
    found = [made for group in groups for made, _ in declared(group)]
    kinds: list[type[Any]] = [Problem]
    for made in found:
        kinds += [kind for kind in (made.body, made.query, made.returns, *made.also.values()) if kind is not None]
    unique = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    shapes = dict(zip(unique, schemas, strict=True))
    paths: dict[str, Any] = {}
    for made in found:
        paths.setdefault(made.path, {})[made.method.lower()] = _operation(made, shapes, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": version,
            "summary": "Chat over JSON: the same accounts, messages and contacts as over XMPP.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(made: Endpoint, shapes: dict[type[Any], Any], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(made),
        "summary": made.summary,
        "tags": [_tag(made)],
        "responses": _responses(made, shapes),
    }
    parameters = [_path_parameter(name) for name in made.variables]
    if made.query is not None:
        parameters += _query_parameters(made.query, components)
    if parameters:
        operation["parameters"] = parameters
    if made.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": shapes[made.body]}}}
    if made.content:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(made.content, binary)}
    if made.auth:
        operation["security"] = [{"bearer": []}]
    return operation


def _responses(made: Endpoint, shapes: dict[type[Any], Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in ((made.status, made.returns), *made.also.items()):
        answer: dict[str, Any] = {"description": "Done" if status < 300 else "See elsewhere"}
        if kind is not None:
            answer["content"] = {"application/json": {"schema": shapes[kind]}}
        if made.gives and status == made.status:
            binary = {"schema": {"type": "string", "format": "binary"}}
            answer["content"] = dict.fromkeys(made.gives, binary)
        responses[str(status)] = answer
    refused = set(ALWAYS) | {KINDS[error].status for error in made.errors}
    if made.auth:
        refused.add(401)
    if made.body is not None or made.content:
        refused |= set(WITH_BODY)
    if made.content:
        refused.add(411)
    problem = {PROBLEM_JSON: {"schema": shapes[Problem]}}
    for status in sorted(refused):
        titles = [KINDS[error].title for error in made.errors if KINDS[error].status == status]
        title = titles[0] if titles else _title(status)
        responses[str(status)] = {"description": title, "content": problem}
    return responses


def _title(status: int) -> str:
    if status in HTTP_KINDS:
        return HTTP_KINDS[status].title
    return next(kind.title for kind in KINDS.values() if kind.status == status)


def _path_parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name.endswith("message_id"):
        schema = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(kind: type[Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    shape = components[kind.__name__]
    required = shape.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in shape["properties"].items()
    ]


def _operation_id(made: Endpoint) -> str:
    words = made.path.replace("{", "").replace("}", "").replace("-", "_").strip("/").replace("/", "_")
    return f"{made.method.lower()}_{words}"


def _tag(made: Endpoint) -> str:
    parts = made.path.strip("/").split("/")
    return parts[1] if parts[0] == "v1" else "aliases"


def routes(description: dict[str, Any]) -> list[web.RouteDef]:
    """The routes of the document and of the page."""
    text = msgspec.json.encode(description)
    files = {name: resources.files("client_api.http").joinpath("page", name).read_bytes() for name in _PAGE}

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=text, content_type="application/json", headers={"Cache-Control": "no-cache"})

    def file(name: str) -> Any:
        async def serve(_request: web.Request) -> web.Response:
            response = web.Response(body=files[name], content_type=_PAGE[name], charset="utf-8")
            response.headers["Content-Security-Policy"] = _CSP
            return response

        return serve

    return [
        web.get("/openapi.json", openapi),
        web.get("/docs", file("docs.html")),
        web.get("/docs/docs.js", file("docs.js")),
        web.get("/docs/docs.css", file("docs.css")),
    ]
