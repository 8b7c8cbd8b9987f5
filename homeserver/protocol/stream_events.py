"""What a client-to-server stream reports. All are values; `StanzaReceived` is the one that is made all the time."""

from dataclasses import dataclass, field
from typing import NamedTuple

from homeserver.protocol.jid import JID
from homeserver.protocol.sm import SentItem
from homeserver.protocol.xml import Element


class StanzaReceived(NamedTuple):
    """A message, presence or IQ of a bound client.

    ``raw`` is its exact bytes where they may be spliced (see `StreamParser.feed`). Tell the stream
    ``handled(position)`` when it is safe.
    """

    element: Element
    raw: bytes | None
    position: int


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The client opened or reopened its stream: hosted domain, claimed account or None, language or ""."""

    to: str
    sender: JID | None
    lang: str


@dataclass(frozen=True, slots=True)
class TlsRequested:
    """Answer `start_tls`, send, do the handshake, then `tls_established`; or `tls_refused`."""


@dataclass(frozen=True, slots=True)
class UserAgent:
    """What the client says of itself (XEP-0388 s2.3): installation UUID or None, software, device; "" if unsaid."""

    id: str | None = None
    software: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class VerifierNeeded:
    """Answer `verifier(found | None)`: that of localpart ``username`` at ``domain`` for the hash ("SHA-256")."""

    username: str
    domain: str
    hash_name: str


@dataclass(frozen=True, slots=True)
class PasswordPresented:
    """Answer `password_result(is_right)`."""

    username: str
    domain: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The credentials are right. Answer `accept()` or `reject(condition)`.

    ``account`` is the bare JID, ``is_bound`` whether the TLS channel was bound.
    """

    account: JID
    mechanism: str
    user_agent: UserAgent | None
    is_bound: bool


@dataclass(frozen=True, slots=True)
class BindRequested:
    """Answer `bound(jid)` or `bind_failed(condition)`.

    ``resource`` is the prepared resource the client asks for, "" if it leaves the choice. With Bind 2 (XEP-0386)
    ``is_bind2`` is set and ``tag`` is a prefix for the resource ("" if none); then ``wants_carbons`` may be set too,
    and the offline messages are not to be sent.
    """

    account: JID
    resource: str
    is_bind2: bool = False
    tag: str = ""
    user_agent: UserAgent | None = None
    wants_carbons: bool = False


@dataclass(frozen=True, slots=True)
class SmEnableRequested:
    """Answer `enabled(...)` or `sm_failed(condition)` (XEP-0198 s3); ``max_seconds`` is None where unsaid."""

    resume: bool
    max_seconds: int | None


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """Answer `resumed(...)` or `resume_failed(...)` (XEP-0198 s5). The session must belong to ``account``."""

    account: JID
    previd: str
    h: int


@dataclass(frozen=True, slots=True)
class AckReceived:
    """The client acknowledged ``h`` stanzas; ``released`` are those that this settled, oldest first."""

    h: int
    released: list[SentItem]


@dataclass(frozen=True, slots=True)
class AckRequested:
    """The client asks how far we are; it has sent stanzas up to ``position``. Answer `acknowledge()`."""

    position: int


@dataclass(frozen=True, slots=True)
class ClientState:
    """The client is looked at, or not (XEP-0352)."""

    active: bool


@dataclass(frozen=True, slots=True)
class PreAuthIq:
    """An IQ of in-band registration before login; answer with `send_stanza`."""

    element: Element
    domain: str


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The stream is over: we sent ``condition`` and the footer. Send what is left, then close the connection."""

    condition: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The client ended its stream, and ours is ended; ``condition`` if it sent a stream error."""

    condition: str = ""


Event = (
    StanzaReceived
    | StreamOpened
    | TlsRequested
    | VerifierNeeded
    | PasswordPresented
    | Authenticated
    | BindRequested
    | SmEnableRequested
    | ResumeRequested
    | AckReceived
    | AckRequested
    | ClientState
    | PreAuthIq
    | StreamFailed
    | StreamClosed
)
