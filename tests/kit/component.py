"""External components: one by slixmpp, and one that says and withholds what it is told to."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element

import slixmpp
from slixmpp import ComponentXMPP

from homeserver.protocol import namespaces as ns
from homeserver.protocol.component_stream import handshake
from homeserver.protocol.parser import StreamHeader, StreamParser, XmlLimits
from tests.kit.node import HOST, ParleyServer

PATIENCE: Final = 20.0
SECRET: Final = "long-and-random"


def add_component(
    node: ParleyServer, domain: str, port: int, *, listener: bool = True, more: str = "", tls: str = "optional"
) -> None:
    """Put a component, and the listener for it, into the configuration of a node that was not started."""
    path: Path = node.config
    text = path.read_text()
    if listener:
        text += f'\n[[listen]]\nkind = "component"\nhost = "{HOST}"\nport = {port}\ntls = "{tls}"\n'
    path.write_text(f'{text}\n[[component]]\ndomain = "{domain}"\nsecret = "{SECRET}"\n{more}\n')


class Echo:
    """slixmpp's component: says every chat message back, takes every subscription."""

    def __init__(self, domain: str, port: int) -> None:
        self.xmpp = ComponentXMPP(domain, SECRET, HOST, port)
        self.presences: list[Any] = []
        self.heard: list[str] = []
        self._port = port
        self._moved = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.xmpp.auto_authorize = None
        self.xmpp.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0199"):
            self.xmpp.register_plugin(plugin)
        self.xmpp.plugin["xep_0030"].add_identity(category="client", itype="bot", name="Echo")
        self.xmpp.add_event_handler("session_start", lambda _: self._started.set_result(None))
        self.xmpp.add_event_handler("message", self._echo)
        self.xmpp.add_event_handler("presence", self._see)

    async def __aenter__(self) -> "Echo":
        self.xmpp.connect(HOST, self._port)
        async with asyncio.timeout(PATIENCE):
            await self._started
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.xmpp.disconnect()
        self.xmpp.cancel_connection_attempt()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that came."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    def _echo(self, message: Any) -> None:
        if message["type"] in ("chat", "normal") and message["body"]:
            self.heard.append(str(message["body"]))
            back = self.xmpp.make_message(mfrom=message["to"], mto=message["from"], mtype="chat")
            back["body"] = f"echo {message['body']}"
            back.send()
            self._moved.set()

    def _see(self, presence: Any) -> None:
        self.presences.append(presence)
        if presence["type"] == "subscribe":
            self.xmpp.send_presence(pto=presence["from"].bare, pfrom=presence["to"].bare, ptype="subscribed")
        self._moved.set()


class RawComponent:
    """A component over a socket. ``answers``: whether it answers pings. ``stanzas`` is what came, pings left out."""

    def __init__(
        self,
        domain: str,
        port: int,
        *,
        answers: bool = True,
        secret: str = SECRET,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.domain = domain
        self.answers = answers
        self.stanzas: list[Element] = []
        self.on_stanza: Callable[[Element], None] = lambda _: None
        self._port = port
        self._secret = secret
        self._context = context
        self._unanswered = ""
        self._parser = StreamParser(XmlLimits())
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_over = False
        self.error = ""

    async def __aenter__(self) -> "RawComponent":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def connect(self) -> None:
        """Connect and prove the secret; ``error`` is set instead where that is refused."""
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port, ssl=self._context)
        self.send(f"<stream:stream xmlns='{ns.COMPONENT}' xmlns:stream='{ns.STREAM}' to='{self.domain}'>")
        self._task = asyncio.create_task(self._read())
        await self.until(lambda: self.is_over or any(found.tag.endswith("}handshake") for found in self.stanzas))
        self.stanzas = [found for found in self.stanzas if not found.tag.endswith("}handshake")]

    async def cut(self) -> None:
        """The connection breaks off, as if the process were killed."""
        if self._task is not None:
            self._task.cancel()
        self._writer.transport.abort()

    def send(self, text: str) -> None:
        """Send what is given."""
        self._writer.write(text.encode())

    async def answer(self) -> None:
        """Answer the ping that was not answered, and all that come from now on."""
        await self.until(lambda: self._unanswered)
        self.answers = True
        self.send(self._unanswered)

    def say(self, to: str, text: str, sender: str = "bot") -> None:
        """A chat message of somebody at the component."""
        self.send(
            f"<message from='{sender}@{self.domain}' to='{to}' type='chat' id='{text}'><body>{text}</body></message>"
        )

    @property
    def bodies(self) -> list[str]:
        """The texts that came, in order."""
        tag = f"{{{ns.COMPONENT}}}body"
        return [
            body.text or "" for found in self.stanzas for body in found.iterfind(tag) if found.get("type") != "error"
        ]

    def stanza(self, id_: str) -> Element | None:
        """What came with that id."""
        return next((found for found in self.stanzas if found.get("id") == id_), None)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that came."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    async def _read(self) -> None:
        while data := await self._reader.read(65536):
            for item in self._parser.feed(data):
                if isinstance(item, StreamHeader):
                    proof = handshake(item.attributes["id"], self._secret)
                    self.send(f"<handshake>{proof}</handshake>")
                elif isinstance(item, tuple):
                    self._take(item[0])
        self.is_over = True
        self._moved.set()

    def _take(self, found: Element) -> None:
        if found.tag == f"{{{ns.STREAM}}}error":
            self.error = found[0].tag.rpartition("}")[2]
        elif found.find(f"{{{ns.PING}}}ping") is not None and found.get("type") == "get":
            self._unanswered = (
                f"<iq type='result' id='{found.get('id')}' from='{found.get('to')}' to='{found.get('from')}'/>"
            )
            if self.answers:
                self.send(self._unanswered)
        else:
            self.stanzas.append(found)
            self.on_stanza(found)
        self._moved.set()


def jid(text: str) -> slixmpp.JID:
    """An address for slixmpp."""
    return slixmpp.JID(text)
