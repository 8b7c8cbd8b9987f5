"""What a client-to-server stream reports. All are values; `StanzaReceived` is the one that is made all the time."""

from dataclasses import dataclass, field
from typing import NamedTuple

from homeserver.protocol.jid import JID
from homeserver.protocol.scram import Verifier
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
class TokensNeeded:
    """Answer `tokens(found)`: those that the client ``client`` of this account may use with ``mechanism`` (XEP-0484)."""

    username: str
    domain: str
    mechanism: str
    client: str


@dataclass(frozen=True, slots=True)
class TokenUse:
    """How a client logs in by token (XEP-0484 s3.4, s3.6): its counter or None, and whether the token ends with it."""

    count: int | None = None
    is_last: bool = False
    token: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UpgradesWanted:
    """The credentials are right, and the client would give ``account`` more verifiers (XEP-0480 s2.2).

    ``hash_names`` are those of SCRAM ("SHA-512"). Answer `upgrades(salts)` for those that the account lacks.
    """

    account: JID
    hash_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpgradeOffered:
    """Answer `upgraded()` when the account has ``verifier`` for SCRAM with ``hash_name`` (XEP-0480 s3)."""

    account: JID
    hash_name: str
    verifier: Verifier = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The credentials are right. Answer `accept()` or `reject(condition)`.

    ``account`` is the bare JID, ``is_bound`` whether the TLS channel was bound. ``use`` is set if it was a token that
    was proven, ``wanted_token`` is the mechanism for which the client asks for a token, or "".
    """

    account: JID
    mechanism: str
    user_agent: UserAgent | None
    is_bound: bool
    use: TokenUse | None = None
    wanted_token: str = ""


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
    | TokensNeeded
    | UpgradesWanted
    | UpgradeOffered
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
