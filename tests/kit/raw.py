"""A raw XMPP client: one TCP connection, every byte in the test's hands.

It negotiates (TLS, SASL PLAIN or SCRAM-SHA-1, resource binding) and then gives top-level elements one by one. It keeps
no state between connections and repairs nothing; stream management across connections is in `managed.py`.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import socket
import ssl
from collections import deque
from typing import Any, Final, cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import escape_attribute
from tests.kit.server import Account, Endpoint

STREAM_ERROR: Final = "{" + ns.STREAM + "}error"
FEATURES: Final = "{" + ns.STREAM + "}features"


class StreamClosed(Exception):
    """The stream or its connection ended. ``condition`` is the stream error, or "" where there was none."""

    def __init__(self, condition: str = "", text: str = "") -> None:
        super().__init__(condition or text or "closed")
        self.condition = condition


class LoginFailed(Exception):
    """SASL failure; ``condition`` as in RFC 6120 s6.5."""

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


class RawClient:
    """One connection to ``endpoint``."""

    def __init__(self, endpoint: Endpoint, timeout: float = 10.0) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._parser: XMLPullParser[Any] = XMLPullParser(("start", "end"))
        self._depth = 0
        self._root: Element | None = None
        self._ready: deque[Element] = deque()
        self.stream_id = ""
        self.features = Element(FEATURES)
        self.jid = ""

    @property
    def idle(self) -> bool:
        """True when every element received so far was taken."""
        return not self._ready

    async def open(self) -> Element:
        """Connect, negotiate TLS as the endpoint says, send the stream header; the stream features."""
        await self.connect()
        if self._endpoint.security == "starttls":
            await self.header()
            self.write(f"<starttls xmlns='{ns.TLS}'/>")
            answer = await self.next()
            if answer.tag != f"{{{ns.TLS}}}proceed":
                raise StreamClosed(text=f"no TLS: {answer.tag}")
            await self.start_tls()
        return await self.header()

    async def connect(self) -> None:
        """TCP, and TLS at once where the endpoint is direct; sends nothing of XMPP."""
        direct = self._endpoint.security == "direct"
        context = self._context() if direct else None
        name = self._endpoint.domain if direct else None
        async with asyncio.timeout(self._timeout):
            self._reader, self._writer = await asyncio.open_connection(
                self._endpoint.host, self._endpoint.port, ssl=context, server_hostname=name
            )
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def start_tls(self) -> None:
        """TLS on the connection, after the server said proceed."""
        if self._writer is None:
            raise RuntimeError("not connected")
        async with asyncio.timeout(self._timeout):
            await self._writer.start_tls(self._context(), server_hostname=self._endpoint.domain)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=None if self._endpoint.ca_file is None else self._endpoint.ca_file)
        if self._endpoint.security == "direct":
            context.set_alpn_protocols(["xmpp-client"])
        return context

    async def header(self) -> Element:
        """Send a stream header on a fresh parser; the features that answer it."""
        self._parser = XMLPullParser(("start", "end"))
        self._depth = 0
        self._root = None
        self.write(
            f"<?xml version='1.0'?><stream:stream to='{escape_attribute(self._endpoint.domain)}' version='1.0' "
            f"xml:lang='en' xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>"
        )
        self.features = await self.next()
        if self.features.tag != FEATURES:
            raise StreamClosed(text=f"no features: {self.features.tag}")
        return self.features

    async def authenticate(self, account: Account, mechanism: str = "PLAIN") -> None:
        """SASL with PLAIN or SCRAM-SHA-1, then the new stream header; LoginFailed if refused."""
        if mechanism == "PLAIN":
            first = f"\0{account.local}\0{account.password}".encode()
            self.write(_auth(mechanism, first))
            answer = await self.next()
        else:
            answer = await self._scram(account)
        if answer.tag != f"{{{ns.SASL}}}success":
            raise LoginFailed(next((part.tag.rpartition("}")[2] for part in answer), answer.tag))
        await self.header()

    async def _scram(self, account: Account) -> Element:
        nonce = secrets.token_urlsafe(18)
        bare = f"n={account.local},r={nonce}"
        self.write(_auth("SCRAM-SHA-1", f"n,,{bare}".encode()))
        challenge = await self.next()
        if challenge.tag != f"{{{ns.SASL}}}challenge":
            return challenge
        server_first = base64.b64decode(challenge.text or "").decode()
        fields = dict(part.split("=", 1) for part in server_first.split(","))
        salted = hashlib.pbkdf2_hmac("sha1", account.password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha1")
        without_proof = f"c=biws,r={fields['r']}"
        message = f"{bare},{server_first},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha1(client_key).digest(), message, "sha1")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        final = base64.b64encode(f"{without_proof},p={proof}".encode()).decode()
        self.write(f"<response xmlns='{ns.SASL}'>{final}</response>")
        return await self.next()

    async def bind(self, resource: str = "") -> str:
        """Bind a resource, the server's choice where ``resource`` is empty; the full JID."""
        asked = f"<resource>{resource}</resource>" if resource else ""
        self.write(f"<iq type='set' id='bind'><bind xmlns='{ns.BIND}'>{asked}</bind></iq>")
        answer = await self.next()
        found = answer.findtext(f"{{{ns.BIND}}}bind/{{{ns.BIND}}}jid")
        if found is None:
            raise StreamClosed(text=f"not bound: {answer.tag}")
        self.jid = found
        return found

    async def login(self, account: Account, resource: str = "", mechanism: str = "PLAIN") -> str:
        """`open`, `authenticate` and `bind`; the full JID."""
        await self.open()
        await self.authenticate(account, mechanism)
        return await self.bind(resource)

    def write(self, data: str | bytes) -> None:
        """Queue bytes for the connection; StreamClosed if it is gone."""
        if self._writer is None or self._writer.is_closing():
            raise StreamClosed
        self._writer.write(data.encode() if isinstance(data, str) else data)

    async def drain(self) -> None:
        """Wait until the kernel took most of what was written; StreamClosed if it is gone."""
        if self._writer is None:
            raise StreamClosed
        try:
            await self._writer.drain()
        except OSError as error:
            raise StreamClosed(text=str(error)) from error

    async def next(self, timeout: float | None = None) -> Element:
        """The next element below the stream header; StreamClosed at its end, TimeoutError after ``timeout`` seconds."""
        async with asyncio.timeout(self._timeout if timeout is None else timeout):
            return await self.next_forever()

    async def next_forever(self) -> Element:
        """`next` without a time limit."""
        while not self._ready:
            if self._reader is None:
                raise StreamClosed
            try:
                data = await self._reader.read(65536)
            except OSError as error:
                raise StreamClosed(text=str(error)) from error
            if not data:
                raise StreamClosed
            self._feed(data)
        found = self._ready.popleft()
        if found.tag == STREAM_ERROR:
            raise StreamClosed(next((part.tag.rpartition("}")[2] for part in found), "undefined-condition"))
        return found

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            events = cast(list[tuple[str, Element]], list(self._parser.read_events()))
        except ParseError as error:
            raise StreamClosed(text=f"the server sent ill-formed XML: {error}") from error
        for event, node in events:
            if event == "start":
                self._depth += 1
                if self._depth == 1:
                    self._root = node
                    self.stream_id = node.get("id", "")
            else:
                self._depth -= 1
                if self._depth == 1 and self._root is not None:
                    self._root.clear()
                    self._ready.append(node)

    def abort(self) -> None:
        """Cut the connection without a word: the peer sees a reset."""
        if self._writer is not None:
            transport = self._writer.transport
            transport.abort()

    async def close(self) -> None:
        """End the stream in good order; waits for nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"</stream:stream>")
            self._writer.close()


def _auth(mechanism: str, first: bytes) -> str:
    return f"<auth xmlns='{ns.SASL}' mechanism='{mechanism}'>{base64.b64encode(first).decode()}</auth>"
