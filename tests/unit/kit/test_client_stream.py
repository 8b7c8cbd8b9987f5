"""Both halves of a stream against each other, over real sockets."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from homeserver.protocol.c2s import ServerStream
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import TcpFraming
from homeserver.protocol.scram import decoy_verifier, derive
from homeserver.protocol.sm import SentQueue
from homeserver.protocol.stream_events import (
    AckRequested,
    Authenticated,
    BindRequested,
    PasswordPresented,
    ResumeRequested,
    SmEnableRequested,
    StanzaReceived,
    TlsRequested,
    VerifierNeeded,
)
from homeserver.protocol.xml import serialise
from homeserver.protocol.xml_input import XmlLimits
from tests.kit.client_stream import LoginFailed, RawClient

SM = "urn:xmpp:sm:3"


class Echo:
    """A server of one account, romeo with the password pencil, that sends every stanza back."""

    def __init__(self, context: ssl.SSLContext, digest: bytes) -> None:
        self.context = context
        self.bindings = {"tls-server-end-point": digest}
        self.queue = SentQueue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        options = StreamOptions(frozenset(("a.example",)), "a.example")
        stream = ServerStream(TcpFraming(XmlLimits()), StreamLimits(), options, 0.0)
        try:
            while data := await reader.read(65536):
                for event in stream.receive(data, 0.0):
                    if isinstance(event, TlsRequested):
                        stream.start_tls()
                        writer.write(stream.data_to_send())
                        await writer.start_tls(self.context)
                        stream.tls_established(self.bindings)
                    else:
                        self.answer(stream, event)
                writer.write(stream.data_to_send())
                if stream.is_closed:
                    break
        finally:
            writer.close()

    def answer(self, stream: ServerStream, event: object) -> None:
        match event:
            case VerifierNeeded(username="romeo"):
                stream.verifier(derive("pencil", b"s" * 16, 4096, event.hash_name))
            case VerifierNeeded():
                stream.verifier(decoy_verifier(b"key", event.username, 4096, event.hash_name))
            case PasswordPresented():
                stream.password_result((event.username, event.password) == ("romeo", "pencil"))
            case Authenticated():
                stream.accept()
            case BindRequested():
                stream.bound(event.account.with_resource(event.resource or "made"))
            case SmEnableRequested():
                stream.enabled(self.queue, "sm-1", 60)
            case ResumeRequested():
                stream.resumed(self.queue, event.h, 1)
            case StanzaReceived():
                stream.send(serialise(event.element).encode())
                stream.handled(event.position)
            case AckRequested():
                stream.acknowledge()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def port(authority: trustme.CA) -> AsyncIterator[int]:
    issued = authority.issue_cert("a.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    server = await asyncio.start_server(Echo(context, hashlib.sha256(der).digest()).serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS"])
async def test_login(port: int, trusting: ssl.SSLContext, mechanism: str) -> None:
    client = RawClient("127.0.0.1", port, "a.example")
    assert await client.login("romeo", "pencil", tls=trusting, mechanism=mechanism) == "romeo@a.example/made"
    assert (await client.enable()).get("id") == "sm-1"
    await client.send("<message id='1'><body>x</body></message>")
    assert (await client.recv_stanza()).get("id") == "1"
    assert await client.handled() == 1
    await client.close()


async def test_sasl2_and_resumption(port: int, trusting: ssl.SSLContext) -> None:
    client = RawClient("127.0.0.1", port, "a.example")
    await client.connect()
    assert client.mechanisms() == []
    await client.open()
    await client.start_tls(trusting)
    assert "SCRAM-SHA-256-PLUS" in client.mechanisms(sasl2=True)
    inline = f"<bind xmlns='urn:xmpp:bind:0'><enable xmlns='{SM}' resume='true'/></bind>"
    await client.authenticate2("romeo", "pencil", "SCRAM-SHA-1-PLUS", inline)
    assert client.jid == "romeo@a.example/made"
    # what is on already is not offered: clients enable what is offered, and twice ends the stream
    assert client.features.find(f"{{{SM}}}sm") is None
    client.abort()
    again = RawClient("127.0.0.1", port, "a.example")
    await again.connect()
    await again.open()
    await again.start_tls(trusting)
    await again.authenticate("romeo", "pencil")
    resumed = await again.resume(client.sm_id, 0)
    assert (resumed.tag, resumed.get("h")) == (f"{{{SM}}}resumed", "1")
    await again.send("<presence/>")
    assert (await again.expect(lambda e: e.tag.endswith("}presence"))).tag == "{jabber:client}presence"
    assert await again.handled() == 2
    await again.close()


@pytest.mark.parametrize("user, password", [("romeo", "wrong"), ("nobody", "pencil")])
async def test_refused(port: int, trusting: ssl.SSLContext, user: str, password: str) -> None:
    client = RawClient("127.0.0.1", port, "a.example")
    await client.connect()
    await client.open()
    await client.start_tls(trusting)
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        with pytest.raises(LoginFailed, match="not-authorized"):
            await client.authenticate(user, password, mechanism)
    await client.send("<presence/>")
    assert await client.expect_end() == "not-authorized"
    client.abort()
