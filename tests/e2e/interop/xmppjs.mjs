// One device made of @xmpp/client. Arguments: service, domain, user name, password. Events are lines of JSON on standard
// output; lines on standard input are orders: "send <jid> <text>", "drop", "stop".
import readline from "node:readline";
import { client, jid, xml } from "@xmpp/client";
import WebSocket from "ws";

globalThis.WebSocket = WebSocket;
const [service, domain, username, password] = process.argv.slice(2);
const tell = (event, rest) => console.log(JSON.stringify({ event, ...rest }));
const xmpp = client({ service, domain, username, password, resource: "js" });
xmpp.jid = jid(username, domain);

xmpp.on("error", (error) => tell("error", { text: String(error) }));
xmpp.on("online", (address) => {
  xmpp.send(xml("presence"));
  tell("online", { jid: String(address) });
});
xmpp.streamManagement.on("resumed", () => tell("resumed", { jid: String(xmpp.jid) }));
xmpp.streamManagement.on("ack", (stanza) => tell("ack", { name: stanza.name, id: stanza.attrs.id }));
xmpp.on("element", (element) => {
  if (element.is("success")) tell("success", { xmlns: element.attrs.xmlns, inline: !!element.getChild("bound") });
});
xmpp.on("send", (element) => {
  if (element.is("authenticate")) tell("authenticate", { mechanism: element.attrs.mechanism });
});
xmpp.on("stanza", (stanza) => {
  if (stanza.is("message") && stanza.getChildText("body")) {
    tell("message", { from: stanza.attrs.from, text: stanza.getChildText("body") });
  }
});
readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const [order, to, ...words] = line.split(" ");
  if (order === "send") {
    await xmpp.send(xml("message", { type: "chat", to, id: words.join("-") }, xml("body", {}, words.join(" "))));
  } else if (order === "drop") {
    const socket = xmpp.socket.socket;
    (socket.destroy ?? socket.terminate).call(socket);
  } else {
    await xmpp.stop();
    process.exit(0);
  }
});
xmpp.start().catch((error) => tell("error", { text: String(error) }));
