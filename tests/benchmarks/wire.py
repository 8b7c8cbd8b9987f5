"""One client connection as the generator needs it: log in over plain TCP, STARTTLS or direct TLS, then raw bytes.

Reading during login is a search for byte markers, not XML parsing: the generator must stay cheaper than the servers.
"""

import base64
import hashlib
import hmac
import re
import secrets
import socket
import ssl
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from tests.benchmarks.caps import Capabilities

READ_SIZE = 65536
_IQ_END = re.compile(rb"</iq>|<iq\b[^>]*/>")
_QUESTION_END = re.compile(rb"<query\b[^>]*disco#info[^>]*>")
_ENABLED = re.compile(rb"<enabled\b[^>]*>")
_STANZA = re.compile(rb"<(?:iq|message|presence)[\s>]")
_MESSAGE_END = re.compile(rb"</message>")
_FEATURES_END = re.compile(rb"</stream:features>|<stream:features\s*/>")
_SASL_ANSWER = re.compile(rb"<(success|failure|challenge)\b[^>]*(?:/>|>.*?</\1>)", re.DOTALL)
_PROCEED = re.compile(rb"<proceed\b[^>]*>")
_SASL_NS = "urn:ietf:params:xml:ns:xmpp-sasl"
_SESSION_NS = b"urn:ietf:params:xml:ns:xmpp-session"


class LoginError(Exception):
    """The server refused a login or closed the connection; the text holds the last bytes it sent."""


@dataclass(frozen=True)
class Account:
    """Where and as whom to log in: `tls` is "none", "starttls" or "direct"."""

    host: str
    port: int
    domain: str
    user: str
    password: str
    tls: str = "none"

    @property
    def jid(self) -> str:
        """The bare JID."""
        return f"{self.user}@{self.domain}"


def insecure_tls() -> ssl.SSLContext:
    """Return a client context that checks no certificate: the servers are our own, on loopback, self-signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """A blocking connection that logs in (RFC 6120 s6, s7) and then hands its socket to a load loop."""

    def __init__(self, account: Account, tls_context: ssl.SSLContext | None = None, timeout: float = 10.0) -> None:
        """Connect. `timeout` in seconds bounds every later blocking call; raises OSError."""
        self.account = account
        self._tls_context = tls_context
        self._buffer = b""
        self.sock: socket.socket = socket.create_connection((account.host, account.port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if account.tls == "direct":
            self._start_tls()

    def login(self, resource: str = "bench") -> None:
        """Authenticate, bind, start the session where the server asks for it, and become available.

        Returns when the server has answered a ping sent after the presence, so the presence has been handled. Raises
        LoginError.
        """
        features = self._open_stream()
        if self.account.tls == "starttls":
            self.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            self.read_until(_PROCEED)
            self._start_tls()
            features = self._open_stream()
        self._authenticate(features)
        features = self._open_stream()
        self.ask(
            "bind",
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f"<resource>{resource}</resource></bind></iq>",
        )
        session = features.partition(_SESSION_NS)[2]
        if session and not session.partition(b"</session>")[0].startswith((b"'><optional", b'"><optional')):
            self.ask("session", f"<iq type='set' id='session'><session xmlns='{_SESSION_NS.decode()}'/></iq>")
        self.send(b"<presence/>")
        self.catch_up()

    def show(self, caps: Capabilities, is_asked: bool = False) -> bytes:
        """Become available with capabilities; the first client that has them ``is_asked`` what they are, and answers.

        Returns what came meanwhile.
        """
        received = b""
        self.send(f"<presence>{caps.element()}</presence>".encode())
        while is_asked:
            received += self.read_until(_QUESTION_END)
            answers = caps.answers(received)
            self.send(answers)
            is_asked = not answers
        return received + self.catch_up()

    def move_in(self, caps: Capabilities, items: int, is_asked: bool = False) -> None:
        """Do what a client does after its login: stream management, copies, contacts, presence with capabilities; wait for
        the newest ``items`` of contacts and acknowledge everything."""
        self.send(
            b"<enable xmlns='urn:xmpp:sm:3' resume='true'/><iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>"
            b"<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>"
        )
        self.read_until(_ENABLED)
        received = self.show(caps, is_asked)
        while received.count(b"</event>") < items:
            received += self.read_until(_MESSAGE_END)
        self.send(b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % len(_STANZA.findall(received)))

    def catch_up(self) -> bytes:
        """Read until the answer to a ping; what was sent by then is handled, and what came is returned."""
        self.send(b"<iq type='get' id='ready'><ping xmlns='urn:xmpp:ping'/></iq>")
        received = b""
        while b"ready" not in received:
            received += self.read_until(_IQ_END)
        return received

    def ask(self, what: str, iq: str) -> bytes:
        """Send an IQ and return everything up to the end of its answer; LoginError when that is an error."""
        self.send(iq.encode())
        answer = self.read_until(_IQ_END)
        if re.search(rb"<iq\b[^>]*\btype=.error", answer):
            raise LoginError(f"{what} refused: {answer[-500:]!r}")
        return answer

    def send(self, data: bytes) -> None:
        """Send all of the bytes, waiting for room."""
        self.sock.sendall(data)

    def read_until(self, pattern: re.Pattern[bytes]) -> bytes:
        """Read until the pattern occurs; return the bytes up to its end and keep the rest for the next call."""
        while True:
            match = pattern.search(self._buffer)
            if match:
                found, self._buffer = self._buffer[: match.end()], self._buffer[match.end() :]
                return found
            data = self.sock.recv(READ_SIZE)
            if not data:
                raise LoginError(f"{self.account.jid}: connection closed after {self._buffer[-500:]!r}")
            self._buffer += data

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket without ceremony."""
        self.sock.close()

    def _start_tls(self) -> None:
        context = self._tls_context or insecure_tls()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.account.domain)

    def _open_stream(self) -> bytes:
        self._buffer = b""
        self.send(
            f"<?xml version='1.0'?><stream:stream to={quoteattr(self.account.domain)} version='1.0' xml:lang='en' "
            "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )
        return self.read_until(_FEATURES_END)

    def _authenticate(self, features: bytes) -> None:
        """Log in by PLAIN (RFC 4616), or by SCRAM-SHA-256 on a server that does not take passwords in clear."""
        if b">PLAIN<" in features:
            answer = self._sasl("auth", "PLAIN", f"\0{self.account.user}\0{self.account.password}".encode())
        elif b">SCRAM-SHA-256<" in features:
            answer = self._scram()
        else:
            raise LoginError(f"{self.account.jid}: no mechanism in common: {features!r}")
        if b"<success" not in answer:
            raise LoginError(f"{self.account.jid}: {answer!r}")

    def _scram(self) -> bytes:
        """SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677)."""
        first = f"n={self.account.user},r={secrets.token_urlsafe(18)}"
        challenge = self._sasl("auth", "SCRAM-SHA-256", f"n,,{first}".encode())
        if b"<challenge" not in challenge:
            return challenge
        server_first = base64.b64decode(
            challenge.partition(b"<challenge")[2].partition(b">")[2].partition(b"<")[0]
        ).decode()
        fields = dict(field.split("=", 1) for field in server_first.split(","))
        salt, rounds = base64.b64decode(fields["s"]), int(fields["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.account.password.encode(), salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={fields['r']}"
        signed = f"{first},{server_first},{final}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(left ^ right for left, right in zip(key, signature, strict=True))
        return self._sasl("response", None, f"{final},p={base64.b64encode(proof).decode()}".encode())

    def _sasl(self, name: str, mechanism: str | None, payload: bytes) -> bytes:
        attribute = f" mechanism='{mechanism}'" if mechanism else ""
        text = base64.b64encode(payload).decode()
        self.send(f"<{name} xmlns='{_SASL_NS}'{attribute}>{text}</{name}>".encode())
        return self.read_until(_SASL_ANSWER)
