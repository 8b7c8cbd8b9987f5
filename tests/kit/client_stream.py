"""The client's half of a stream, for tests: raw bytes where wanted, ready-made steps where not.

`RawClient` speaks over TCP, STARTTLS or TLS: SASL (PLAIN, SCRAM and -PLUS), SASL2 with Bind 2, resource binding, stream
management. It repairs nothing and hides nothing: what the server sends is in `recv`, in order.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from homeserver.protocol.parser import Item, StreamHeader, StreamParser, XmlLimits
from homeserver.protocol.xml import child, children, escape_attribute, serialise, text_of

STANZAS: Final = frozenset(f"{{{ns.CLIENT}}}{name}" for name in ("message", "presence", "iq"))
FEATURES: Final = f"{{{ns.STREAM}}}features"
STREAM_ERROR: Final = f"{{{ns.STREAM}}}error"
_LIMITS: Final = XmlLimits(max_bytes=1 << 24, max_depth=500, max_attributes=500, header_bytes=1 << 16)


class LoginFailed(Exception):
    """SASL failure; the argument is the condition of RFC 6120 s6.5."""


class StreamEnded(Exception):
    """The server closed; the argument is its stream error, or "" without one."""


class ScramClient:
    """One SCRAM exchange from the client's side (RFC 5802), extensions of the challenge included."""

    def __init__(self, mechanism: str, username: str, password: str, binding: tuple[str, bytes] | None = None) -> None:
        self._digest = {"SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}[
            mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
        ]
        self._password = password.encode()
        self._gs2 = f"p={binding[0]},," if binding is not None else "n,,"
        self._binding = binding[1] if binding is not None else b""
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={secrets.token_hex(12)}"
        self._signature = b""

    def first(self) -> bytes:
        """client-first-message."""
        return (self._gs2 + self._bare).encode()

    def final(self, challenge: bytes) -> bytes:
        """client-final-message for server-first-message."""
        text = challenge.decode()
        values = dict(part.split("=", 1) for part in text.split(","))
        assert values["r"].startswith(self._bare.rpartition("r=")[2])
        salted = hashlib.pbkdf2_hmac(self._digest, self._password, base64.b64decode(values["s"]), int(values["i"]))
        client_key = hmac.digest(salted, b"Client Key", self._digest)
        bound = base64.b64encode(self._gs2.encode() + self._binding).decode()
        without = f"c={bound},r={values['r']}"
        message = f"{self._bare},{text},{without}".encode()
        stored = hashlib.new(self._digest, client_key).digest()
        proof = bytes(a ^ b for a, b in zip(client_key, hmac.digest(stored, message, self._digest), strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", self._digest), message, self._digest)
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def check(self, final: bytes) -> None:
        """Does the server know the verifier? Raises `AssertionError`."""
        assert final == b"v=" + base64.b64encode(self._signature)


class RawClient:
    """One connection. ``domain`` is the hosted domain to talk to; ``timeout`` in seconds bounds every wait."""

    def __init__(self, host: str, port: int, domain: str, timeout: float = 10.0) -> None:
        self.host = host
        self.port = port
        self.domain = domain
        self.timeout = timeout
        self.jid = ""
        self.features = Element(FEATURES)
        self.header: StreamHeader | None = None
        self.sm_id = ""
        self.received = 0  # stanzas of the server since stream management began
        self._is_managed = False
        self._parser = StreamParser(_LIMITS)
        self._items: deque[Item] = deque()
        self._kept: deque[Element] = deque()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    # -- bytes

    async def connect(self, tls: ssl.SSLContext | None = None) -> None:
        """Open the connection; with ``tls`` it is encrypted from the first byte (XEP-0368)."""
        name = self.domain if tls is not None else None
        self._reader, self._writer = await asyncio.wait_for(
            asyncio.open_connection(self.host, self.port, ssl=tls, server_hostname=name), self.timeout
        )

    async def send(self, data: bytes | str) -> None:
        """Send exactly these bytes."""
        assert self._writer is not None
        self._writer.write(data.encode() if isinstance(data, str) else data)
        await self._writer.drain()

    async def send_element(self, element: Element) -> None:
        """Send one element."""
        await self.send(serialise(element))

    async def close(self) -> None:
        """End the stream and the connection."""
        if self._writer is None:
            return
        try:
            await self.send("</stream:stream>")
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), self.timeout)
        except (OSError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self._writer is not None:
            self._writer.transport.abort()

    # -- elements

    async def _item(self) -> Item:
        while not self._items:
            assert self._reader is not None
            data = await self._reader.read(65536)
            if not data:
                raise StreamEnded("")
            self._items.extend(self._parser.feed(data))
        return self._items.popleft()

    async def recv(self, timeout: float | None = None) -> Element:
        """The next element of the server, whatever it is. Raises `StreamEnded`, `TimeoutError`."""
        if self._kept:
            return self._kept.popleft()
        item = await asyncio.wait_for(self._item(), self.timeout if timeout is None else timeout)
        if isinstance(item, StreamHeader):
            self.header = item
            return await self.recv(timeout)
        if not isinstance(item, tuple):
            raise StreamEnded("")
        element = item[0]
        if element.tag == STREAM_ERROR:
            raise StreamEnded(element[0].tag.rpartition("}")[2] if len(element) else "")
        if self._is_managed and element.tag in STANZAS:
            self.received += 1
        return element

    async def recv_stanza(self, timeout: float | None = None) -> Element:
        """The next message, presence or IQ; requests for acknowledgement on the way are answered."""
        while True:
            element = await self.recv(timeout)
            if element.tag in STANZAS:
                return element
            if element.tag == f"{{{ns.STREAM_MANAGEMENT}}}r":
                await self.acknowledge()

    async def expect(self, predicate: Callable[[Element], bool], timeout: float | None = None) -> Element:
        """The next element that fits; the others stay for later, in order. Raises `TimeoutError`."""
        passed: list[Element] = []
        async with asyncio.timeout(self.timeout if timeout is None else timeout):
            try:
                while True:
                    element = await self.recv()
                    if predicate(element):
                        return element
                    passed.append(element)
            finally:
                self._kept.extendleft(reversed(passed))

    async def expect_end(self) -> str:
        """Read until the server ends the stream; returns its stream error or ""."""
        try:
            while True:
                await self.recv()
        except StreamEnded as ended:
            return str(ended)
        except ConnectionError:
            return ""

    async def request(self, kind: str, payload: str, to: str = "", timeout: float | None = None) -> Element:
        """Send an IQ and return its answer."""
        identifier = secrets.token_hex(6)
        target = f" to='{escape_attribute(to)}'" if to else ""
        await self.send(f"<iq type='{kind}' id='{identifier}'{target}>{payload}</iq>")
        return await self.expect(
            lambda e: e.tag.endswith("}iq") and e.get("id") == identifier and e.get("type") in ("result", "error"),
            timeout,
        )

    # -- negotiation

    async def open(self, sender: str = "") -> Element:
        """Open the stream, or open it anew; returns the features."""
        self._parser = StreamParser(_LIMITS)
        source = f" from='{escape_attribute(sender)}'" if sender else ""
        await self.send(
            f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}' version='1.0'"
            f" to='{escape_attribute(self.domain)}'{source}>"
        )
        self.features = await self.recv()
        assert self.features.tag == FEATURES
        return self.features

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """STARTTLS, then a new stream."""
        await self.send(f"<starttls xmlns='{ns.TLS}'/>")
        assert (await self.recv()).tag == f"{{{ns.TLS}}}proceed"
        assert self._writer is not None
        await asyncio.wait_for(self._writer.start_tls(context, server_hostname=self.domain), self.timeout)
        await self.open()

    def mechanisms(self, sasl2: bool = False) -> list[str]:
        """What the features offer."""
        namespace, name = (ns.SASL2, "authentication") if sasl2 else (ns.SASL, "mechanisms")
        offer = child(self.features, namespace, name)
        return [] if offer is None else [found.text or "" for found in children(offer, namespace, "mechanism")]

    def end_point(self) -> bytes:
        """``tls-server-end-point`` of the server's certificate, for one signed with SHA-256 (RFC 5929 s4)."""
        assert self._writer is not None
        return hashlib.sha256(self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)).digest()

    async def authenticate(self, username: str, password: str, mechanism: str = "SCRAM-SHA-1") -> None:
        """RFC 6120 s6, and the stream restart. Raises `LoginFailed`."""
        success = await self._exchange(ns.SASL, username, password, mechanism, "")
        assert success.tag == f"{{{ns.SASL}}}success"
        await self.open(f"{username}@{self.domain}")

    async def authenticate2(
        self, username: str, password: str, mechanism: str = "SCRAM-SHA-256", inline: str = ""
    ) -> Element:
        """XEP-0388 with ``inline`` requests; returns ``<success/>`` and reads the features behind it, if any.

        Raises `LoginFailed`.
        """
        success = await self._exchange(ns.SASL2, username, password, mechanism, inline)
        identity = text_of(success, ns.SASL2, "authorization-identifier") or ""
        if "/" in identity:
            self.jid = identity
        bound = child(success, ns.BIND2, "bound")
        enabled = child(bound, ns.STREAM_MANAGEMENT, "enabled") if bound is not None else None
        if enabled is not None:
            self._managed(enabled)
        if child(success, ns.STREAM_MANAGEMENT, "resumed") is not None:
            self._is_managed = True
        else:
            self.features = await self.recv()
            assert self.features.tag == FEATURES
        return success

    async def authenticate_token(
        self,
        username: str,
        token: str,
        client: str,
        mechanism: str = "HT-SHA-256-NONE",
        uses: str = "",
        inline: str = "",
    ) -> Element:
        """XEP-0484 s3.4; ``uses`` are attributes of ``<fast/>``. Returns ``<success/>`` and reads the features behind it.

        Raises `LoginFailed`.
        """
        binding = self.end_point() if mechanism.endswith("-ENDP") else b""
        proof = username.encode() + b"\0" + hmac.digest(token.encode(), b"Initiator" + binding, "sha256")
        await self.send(
            f"<authenticate xmlns='{ns.SASL2}' mechanism='{mechanism}'>"
            f"<initial-response>{base64.b64encode(proof).decode()}</initial-response><user-agent id='{client}'/>"
            f"<fast xmlns='{ns.FAST}'{uses}/>{inline}</authenticate>"
        )
        answer = await self.recv()
        if answer.tag == f"{{{ns.SASL2}}}failure":
            raise LoginFailed(answer[0].tag.rpartition("}")[2])
        said = base64.b64decode(text_of(answer, ns.SASL2, "additional-data") or "")
        assert said == hmac.digest(token.encode(), b"Responder" + binding, "sha256")
        identity = text_of(answer, ns.SASL2, "authorization-identifier") or ""
        self.jid = identity if "/" in identity else ""
        if child(answer, ns.STREAM_MANAGEMENT, "resumed") is None:
            self.features = await self.recv()
        return answer

    async def _exchange(self, namespace: str, username: str, password: str, mechanism: str, inline: str) -> Element:
        scram: ScramClient | None = None
        if mechanism == "PLAIN":
            first = f"\0{username}\0{password}".encode()
        else:
            binding = ("tls-server-end-point", self.end_point()) if mechanism.endswith("-PLUS") else None
            scram = ScramClient(mechanism, username, password, binding)
            first = scram.first()
        text = base64.b64encode(first).decode()
        if namespace == ns.SASL2:
            initial = f"<initial-response>{text}</initial-response>{inline}"
            await self.send(f"<authenticate xmlns='{namespace}' mechanism='{mechanism}'>{initial}</authenticate>")
        else:
            await self.send(f"<auth xmlns='{namespace}' mechanism='{mechanism}'>{text}</auth>")
        answer = await self.recv()
        if scram is not None and answer.tag == f"{{{namespace}}}challenge":
            final = base64.b64encode(scram.final(base64.b64decode(answer.text or ""))).decode()
            await self.send(f"<response xmlns='{namespace}'>{final}</response>")
            answer = await self.recv()
        if answer.tag == f"{{{namespace}}}failure":
            raise LoginFailed(answer[0].tag.rpartition("}")[2])
        if scram is not None:
            said = text_of(answer, ns.SASL2, "additional-data") if namespace == ns.SASL2 else answer.text
            scram.check(base64.b64decode(said or ""))
        return answer

    async def bind(self, resource: str = "") -> str:
        """RFC 6120 s7; returns the full JID."""
        wish = f"<resource>{resource}</resource>" if resource else ""
        answer = await self.request("set", f"<bind xmlns='{ns.BIND}'>{wish}</bind>")
        assert answer.get("type") == "result", serialise(answer)
        bound = child(answer, ns.BIND, "bind")
        assert bound is not None
        self.jid = text_of(bound, ns.BIND, "jid") or ""
        return self.jid

    async def login(
        self, username: str, password: str, *, tls: ssl.SSLContext | None = None, mechanism: str = "SCRAM-SHA-1"
    ) -> str:
        """Everything from the connection to the resource, with STARTTLS if ``tls`` is given; returns the full JID."""
        await self.connect()
        await self.open()
        if tls is not None:
            await self.start_tls(tls)
        await self.authenticate(username, password, mechanism)
        return await self.bind()

    # -- stream management

    async def enable(self, resume: bool = True) -> Element:
        """XEP-0198 s3; returns ``<enabled/>`` or ``<failed/>``."""
        wish = " resume='true'" if resume else ""
        await self.send(f"<enable xmlns='{ns.STREAM_MANAGEMENT}'{wish}/>")
        answer = await self.expect(lambda e: e.tag.startswith("{" + ns.STREAM_MANAGEMENT + "}"))
        if answer.tag.endswith("}enabled"):
            self._managed(answer)
        return answer

    def _managed(self, enabled: Element) -> None:
        self.sm_id = enabled.get("id", "")
        self.received = 0
        self._is_managed = True

    async def resume(self, previd: str, received: int) -> Element:
        """XEP-0198 s5 after the login; returns ``<resumed/>`` or ``<failed/>``."""
        self.received = received
        await self.send(
            f"<resume xmlns='{ns.STREAM_MANAGEMENT}' previd='{escape_attribute(previd)}' h='{received % (1 << 32)}'/>"
        )
        answer = await self.recv()
        if answer.tag.endswith("}resumed"):
            self.sm_id = previd
            self._is_managed = True
        return answer

    async def acknowledge(self, h: int | None = None) -> None:
        """Send ``<a/>``."""
        count = self.received if h is None else h
        await self.send(f"<a xmlns='{ns.STREAM_MANAGEMENT}' h='{count % (1 << 32)}'/>")

    async def handled(self, timeout: float | None = None) -> int:
        """Ask the server how many stanzas it has handled, and wait for the answer."""
        await self.send(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>")
        answer = await self.expect(lambda e: e.tag == f"{{{ns.STREAM_MANAGEMENT}}}a", timeout)
        return int(answer.get("h", "-1"))
