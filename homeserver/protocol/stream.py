"""What all XML streams share: states, the table of what may come when, output, errors and the end (RFC 6120 s4).

The table. A row is a state, a column what the client sends, a cell who deals with it; an empty cell is a stream error.

============== ======== ======== ======== ======== ======== ======== ======== ========
state          header   starttls auth     response stanza   enable   resume   a, r, csi
============== ======== ======== ======== ======== ======== ======== ======== ========
OPENING        open     -        -        -        -        -        -        -
NEGOTIATING    -        starttls auth     -        early    -        -        -
SECURING       -        -        -        -        -        -        -        -
AUTHENTICATING -        -        -        respond  -        -        -        -
JUDGING        -        -        -        -        -        -        -        -
AUTHENTICATED  -        -        -        -        bind     refuse   resume   -
BINDING        (kept until the application has answered)
BOUND          -        -        -        -        stanza   enable   refuse   control
============== ======== ======== ======== ======== ======== ======== ======== ========

OPENING waits for a stream header, at first, after TLS and after RFC 6120's login. In NEGOTIATING the features are out
and nobody is logged in. SECURING waits for the TLS handshake: what still comes in the clear is refused. In
AUTHENTICATING it is the client's turn, in JUDGING the application's; in TASKING a client that proved itself works off
the tasks of XEP-0388 with ``<next/>`` and ``<task-data/>``, and nothing else. AUTHENTICATED waits for a resource or a resumption
and BINDING for the application's answer to that. CLOSING has sent its footer and drops what comes.
"""

from enum import Enum, auto
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.framing import Framing
from homeserver.protocol.stream_events import StreamFailed
from homeserver.protocol.xml import escape_attribute, escape_text


class ProtocolMisuse(Exception):
    """The application gave a command that has no meaning now. Never the peer's fault."""


class State(Enum):
    """Where a stream is; see the table above."""

    OPENING = auto()
    NEGOTIATING = auto()
    SECURING = auto()
    AUTHENTICATING = auto()
    JUDGING = auto()
    TASKING = auto()
    AUTHENTICATED = auto()
    BINDING = auto()
    BOUND = auto()
    CLOSING = auto()
    CLOSED = auto()


class Kind(Enum):
    """What a top-level element is."""

    STARTTLS = auto()
    AUTH = auto()
    AUTHENTICATE = auto()
    RESPONSE = auto()
    ABORT = auto()
    NEXT = auto()
    TASK_DATA = auto()
    STANZA = auto()
    ENABLE = auto()
    RESUME = auto()
    CONTROL = auto()
    ERROR = auto()
    OTHER = auto()


KINDS: Final[dict[str, Kind]] = {
    f"{{{ns.TLS}}}starttls": Kind.STARTTLS,
    f"{{{ns.SASL}}}auth": Kind.AUTH,
    f"{{{ns.SASL}}}response": Kind.RESPONSE,
    f"{{{ns.SASL}}}abort": Kind.ABORT,
    f"{{{ns.SASL2}}}authenticate": Kind.AUTHENTICATE,
    f"{{{ns.SASL2}}}response": Kind.RESPONSE,
    f"{{{ns.SASL2}}}abort": Kind.ABORT,
    f"{{{ns.SASL2}}}next": Kind.NEXT,
    f"{{{ns.SASL2}}}task-data": Kind.TASK_DATA,
    f"{{{ns.CLIENT}}}message": Kind.STANZA,
    f"{{{ns.CLIENT}}}presence": Kind.STANZA,
    f"{{{ns.CLIENT}}}iq": Kind.STANZA,
    f"{{{ns.STREAM_MANAGEMENT}}}enable": Kind.ENABLE,
    f"{{{ns.STREAM_MANAGEMENT}}}resume": Kind.RESUME,
    f"{{{ns.STREAM_MANAGEMENT}}}a": Kind.CONTROL,
    f"{{{ns.STREAM_MANAGEMENT}}}r": Kind.CONTROL,
    f"{{{ns.CLIENT_STATE}}}active": Kind.CONTROL,
    f"{{{ns.CLIENT_STATE}}}inactive": Kind.CONTROL,
    f"{{{ns.STREAM}}}error": Kind.ERROR,
}

TABLE: Final[dict[State, dict[Kind, str]]] = {
    State.NEGOTIATING: {
        Kind.STARTTLS: "starttls",
        Kind.AUTH: "auth",
        Kind.AUTHENTICATE: "auth",
        Kind.STANZA: "early",
    },
    State.AUTHENTICATING: {Kind.RESPONSE: "respond", Kind.ABORT: "abort"},
    State.TASKING: {Kind.NEXT: "next_task", Kind.TASK_DATA: "task_data", Kind.ABORT: "abort"},
    State.AUTHENTICATED: {Kind.STANZA: "bind", Kind.RESUME: "resume", Kind.ENABLE: "refuse_enable"},
}
"""Which action of the negotiation deals with what; what is missing is refused with `refusal`."""


def refusal(state: State, kind: Kind) -> str:
    """The stream error for something that must not come now."""
    if kind is Kind.STANZA:
        return "not-authorized"
    if kind is Kind.OTHER and state is not State.SECURING:
        return "unsupported-stanza-type"
    return "policy-violation"


class Stream:
    """Output, error and end of one stream. ``is_managed``: stream management is on (XEP-0198)."""

    __slots__ = ("_out", "domain", "framing", "is_managed", "opened", "state")

    def __init__(self, framing: Framing, domain: str) -> None:
        self.framing = framing
        self._out: list[bytes] = []
        self.domain = domain
        self.opened = False
        self.is_managed = False
        self.state = State.OPENING

    def data_to_send(self) -> bytes:
        """Everything to be written, in order; call after every `receive` and every command."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def messages_to_send(self) -> list[bytes]:
        """The same, one entry per element, as WebSocket messages."""
        out = self._out
        self._out = []
        return out

    def write(self, text: str) -> None:
        """Queue one element written for a ``jabber:client`` context."""
        self._out.append(self.framing.element(text.encode()))

    def write_features(self, content: str) -> None:
        """Queue the features of the stream."""
        self._out.append(self.framing.stream_element("features", content))

    def open(self, stream_id: str, to: str = "", lang: str = "en") -> None:
        """Queue our stream header (RFC 6120 s4.7)."""
        attributes = {"from": self.domain, "id": stream_id, "version": "1.0", "xml:lang": lang}
        if to:
            attributes["to"] = to
        self._out.append(self.framing.header(attributes))
        self.opened = True

    def fail(self, condition: str, text: str = "", application: str = "") -> StreamFailed:
        """End the stream with an error (RFC 6120 s4.9); a header comes first if none was sent (s4.9.1.2)."""
        if self.state is not State.CLOSED:
            if not self.opened:
                self.open("")
            content = f"<{condition} xmlns='{ns.STREAM_ERRORS}'/>"
            if text:
                content += f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'>{escape_text(text)}</text>"
            self._out.append(self.framing.stream_element("error", content + application))
            self._out.append(self.framing.footer())
        self.state = State.CLOSED
        return StreamFailed(condition, text)

    def end(self) -> None:
        """Queue our footer, once."""
        if self.state not in (State.CLOSING, State.CLOSED):
            if not self.opened:
                self.open("")
            self._out.append(self.framing.footer())


def attribute(name: str, value: str) -> str:
    """`` name='value'``, escaped."""
    return f" {name}='{escape_attribute(value)}'"
