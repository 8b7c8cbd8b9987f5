"""XMPP over WebSocket (RFC 7395) with aiohttp's client: framing, login, messages, stream management, and what is refused."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import aiohttp
import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.client_stream import ScramClient
from tests.kit.node import HOST, ParleyServer
from tests.kit.slix import Slix

SM = f"{{{ns.STREAM_MANAGEMENT}}}"
CLIENT = f"{{{ns.CLIENT}}}"


class Frames:
    """One socket; `open` begins a stream, `take` gives what one frame holds."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, domain: str) -> None:
        self.socket = socket
        self.domain = domain
        self.stanzas = 0

    async def send(self, text: str) -> None:
        await self.socket.send_str(text)

    async def take(self) -> Element:
        """The next frame, which is one whole element that declares its namespaces."""
        frame = await self.socket.receive(timeout=10)
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        assert not frame.data.startswith("<?xml")
        found = ElementTree.fromstring(frame.data)
        if found.tag in (f"{CLIENT}message", f"{CLIENT}presence", f"{CLIENT}iq"):
            self.stanzas += 1
        return found

    async def until(self, tag: str) -> Element:
        while (found := await self.take()).tag != tag:
            pass
        return found

    async def open(self) -> Element:
        """``<open/>`` both ways, and the features."""
        await self.send(f"<open xmlns='{ns.FRAMING}' to='{self.domain}' version='1.0'/>")
        opened = await self.take()
        assert opened.tag == f"{{{ns.FRAMING}}}open"
        assert opened.get("from") == self.domain
        return await self.take()

    async def authenticate(self, name: str, password: str) -> Element:
        """SASL with SCRAM-SHA-256; the features after it."""
        features = await self.open()
        assert features.find(f"{{{ns.TLS}}}starttls") is None
        scram = ScramClient("SCRAM-SHA-256", name, password)
        text = base64.b64encode(scram.first()).decode()
        await self.send(f"<auth xmlns='{ns.SASL}' mechanism='SCRAM-SHA-256'>{text}</auth>")
        challenge = await self.take()
        answer = base64.b64encode(scram.final(base64.b64decode(challenge.text or ""))).decode()
        await self.send(f"<response xmlns='{ns.SASL}'>{answer}</response>")
        success = await self.take()
        scram.check(base64.b64decode(success.text or ""))
        return await self.open()

    async def login(self, name: str, resource: str = "ws") -> str:
        """Everything up to the resource; the full JID."""
        await self.authenticate(name, f"secret-{name}")
        await self.send(
            f"<iq xmlns='{ns.CLIENT}' type='set' id='b'><bind xmlns='{ns.BIND}'><resource>{resource}</resource></bind></iq>"
        )
        jid = (await self.take()).findtext(f"{{{ns.BIND}}}bind/{{{ns.BIND}}}jid")
        assert jid is not None
        return jid


@contextlib.asynccontextmanager
async def socket(node: ParleyServer) -> AsyncIterator[Frames]:
    trust = ssl.create_default_context(cafile=str(node.authority.ca_file))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http,
        http.ws_connect(f"https://{HOST}:{node.ports.https}/xmpp-websocket", protocols=("xmpp",)) as made,
    ):
        assert made.protocol == "xmpp"
        yield Frames(made, node.domain)


async def test_messages_over_two_domains(one: ParleyServer, two: ParleyServer) -> None:
    account = next(found for found in two.accounts if found.local == "bob")
    async with socket(one) as ann, Slix(two.endpoint, account) as bob:
        jid = await ann.login("ann")
        assert jid == "ann@one.example/ws"
        await ann.send(f"<presence xmlns='{ns.CLIENT}'/>")
        await ann.until(f"{CLIENT}presence")
        await ann.send(
            f"<message xmlns='{ns.CLIENT}' to='bob@two.example' type='chat'><body>by WebSocket &amp; so on</body></message>"
        )
        await bob.said("by WebSocket & so on")
        assert str(bob.messages[0]["from"]) == jid
        bob.say(jid, "and back")
        assert (await ann.until(f"{CLIENT}message")).findtext(f"{CLIENT}body") == "and back"
        await ann.send(f"<close xmlns='{ns.FRAMING}'/>")
        assert (await ann.take()).tag == f"{{{ns.FRAMING}}}close"
        assert (await ann.socket.receive(timeout=10)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_stream_management_and_resumption_from_another_kind_of_connection(
    one: ParleyServer, two: ParleyServer
) -> None:
    account = next(found for found in two.accounts if found.local == "dan")
    async with Slix(two.endpoint, account) as dan:
        async with socket(one) as cat:
            await cat.login("cat")
            await cat.send(f"<enable xmlns='{ns.STREAM_MANAGEMENT}' resume='true'/>")
            stream = (await cat.until(f"{SM}enabled")).get("id")
            cat.stanzas = 0
            await cat.send(f"<presence xmlns='{ns.CLIENT}'/>")
            await cat.until(f"{CLIENT}presence")
            await cat.send(f"<message xmlns='{ns.CLIENT}' to='dan@two.example' type='chat'><body>1</body></message>")
            await cat.send(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>")
            assert (await cat.until(f"{SM}a")).get("h") == "2"
            await dan.said("1")
            received = cat.stanzas
            response = cat.socket._response
            assert response.connection is not None
            assert response.connection.transport is not None
            response.connection.transport.abort()
        dan.say("cat@one.example", "while it was gone")
        await dan.settled()
        async with socket(one) as cat:
            await cat.authenticate("cat", "secret-cat")
            await cat.send(f"<resume xmlns='{ns.STREAM_MANAGEMENT}' previd='{stream}' h='{received}'/>")
            resumed = await cat.until(f"{SM}resumed")
            assert resumed.get("h") == "2"
            assert (await cat.until(f"{CLIENT}message")).findtext(f"{CLIENT}body") == "while it was gone"


@pytest.mark.parametrize(
    ("frame", "condition"),
    [
        (f"<stream:stream xmlns:stream='{ns.STREAM}' xmlns='{ns.CLIENT}' to='one.example' version='1.0'>", ""),
        (f"<open xmlns='{ns.FRAMING}' to='other.example' version='1.0'/>", "host-unknown"),
        (f"<message xmlns='{ns.CLIENT}'/>", ""),
    ],
)
async def test_what_does_not_begin_a_stream_is_refused(one: ParleyServer, frame: str, condition: str) -> None:
    async with socket(one) as made:
        await made.send(frame)
        told: list[str] = []
        async with asyncio.timeout(10):
            async for answer in made.socket:
                told.append(answer.data)
        assert any(condition in text for text in told), told
        assert told[-1].startswith("<close")


async def test_the_subprotocol_is_asked_for(one: ParleyServer) -> None:
    trust = ssl.create_default_context(cafile=str(one.authority.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"https://{HOST}:{one.ports.https}/xmpp-websocket")


async def test_host_meta_names_the_socket(one: ParleyServer) -> None:
    trust = ssl.create_default_context(cafile=str(one.authority.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http:
        async with http.get(f"https://{HOST}:{one.ports.https}/.well-known/host-meta.json") as answer:
            links = {link["rel"]: link["href"] for link in (await answer.json(content_type=None))["links"]}
        url = links["urn:xmpp:alt-connections:websocket"].replace("wss:", "https:")
        async with http.ws_connect(url, protocols=("xmpp",)) as made:
            assert (await Frames(made, one.domain).open()).tag == f"{{{ns.STREAM}}}features"
