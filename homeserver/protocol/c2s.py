"""A client's stream as the server sees it: bytes in, events out, commands in, bytes out.

Contract. `ServerStream.receive` never raises for what a client sends: it answers with events (`stream_events`), and a
client's fault ends as `StreamFailed` after the RFC 6120 s4.9 error was queued. Commands answer events; a command that
has no meaning in the present state raises `ProtocolMisuse`. A command that may set off more events returns them, to be
treated like those of `receive`. After every `receive`, command and `check_deadline`, write what `data_to_send` returns
(`messages_to_send` on WebSocket). After `StreamFailed` or `StreamClosed`, send the rest and close the connection.
Nothing reads a clock: ``now`` is seconds on any steady clock, `next_deadline` says when to call `check_deadline`.

==================== ==============================================================================
event                answered by
==================== ==============================================================================
TlsRequested         start_tls(), then tls_established(bindings) once the handshake is done; tls_refused()
VerifierNeeded       verifier(found or None)
PasswordPresented    password_result(is_right)
Authenticated        accept() or reject(condition)
PreAuthIq            send_stanza(reply)
BindRequested        bound(jid, extra) or bind_failed(condition)
SmEnableRequested    enabled(queue, resume_id, max_seconds) or sm_failed(condition)
ResumeRequested      resumed(previd, h, queue) or resume_failed(condition, h)
StanzaReceived       handled(position), when the stanza is safe, in any order
AckRequested         acknowledge(), at once or when everything up to its position is handled
==================== ==============================================================================

The states are in `stream`. What is needed only until a resource is bound lives in `negotiation` and `binding` and is
dropped then; a bound stream is a few slots.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.binding import counter, enable_wanted, failed
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import Framing
from homeserver.protocol.jid import JID
from homeserver.protocol.negotiation import Negotiation
from homeserver.protocol.parser import Item, StreamEnd, XmlFault
from homeserver.protocol.scram import Verifier
from homeserver.protocol.sm import WRAP, HandledCountTooHigh, SentItem, SentQueue
from homeserver.protocol.stanza import IQ, MESSAGE, PRESENCE
from homeserver.protocol.stream import KINDS, Kind, ProtocolMisuse, State, Stream, attribute, refusal
from homeserver.protocol.stream_events import (
    AckReceived,
    AckRequested,
    ClientState,
    Event,
    StanzaReceived,
    StreamClosed,
    StreamFailed,
    TlsRequested,
    VerifierNeeded,
)
from homeserver.protocol.xml import Element, serialise

_ORDINARY: Final = frozenset((MESSAGE, PRESENCE))
_SESSION_TAG: Final = f"{{{ns.SESSION}}}session"
_BIND_TAG: Final = f"{{{ns.BIND}}}bind"
_ACK_TAG: Final = f"{{{ns.STREAM_MANAGEMENT}}}a"
_REQUEST_TAG: Final = f"{{{ns.STREAM_MANAGEMENT}}}r"
_ACTIVE_TAG: Final = f"{{{ns.CLIENT_STATE}}}active"
_REQUEST: Final = f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>"


def random_id() -> str:
    """128 random bits as text that may stand in attributes and SCRAM nonces."""
    return secrets.token_urlsafe(16)


class ServerStream(Stream):
    """One client connection. See the module for the contract.

    ``secure`` tells that TLS is on already (direct TLS, ``wss:``), ``bindings`` its channel bindings: type to data,
    such as ``{"tls-server-end-point": digest}``. ``make_id`` makes stream ids and nonces.
    """

    __slots__ = (
        "_base",
        "_deadline",
        "_early",
        "_handled",
        "_hash_name",
        "_limits",
        "_negotiation",
        "_now",
        "_position",
        "jid",
        "queue",
    )

    def __init__(
        self,
        framing: Framing,
        limits: StreamLimits,
        options: StreamOptions,
        now: float,
        *,
        secure: bool = False,
        bindings: Mapping[str, bytes] | None = None,
        make_id: Callable[[], str] = random_id,
    ) -> None:
        super().__init__(framing, options.default_domain)
        framing.limits = limits.before_login
        self._limits = limits
        self._now = now
        self._deadline: float | None = now + limits.login_seconds
        self._negotiation: Negotiation | None = Negotiation(self, options, limits, make_id)
        self._negotiation.secure = secure
        self._negotiation.bindings = dict(bindings or {})
        self._position = 0  # stanzas received since the resource was bound
        self._handled = 0  # all up to this one are safe
        self._early: set[int] | None = None  # safe ones beyond
        self._base: int | None = None  # position minus h; None without stream management
        self._hash_name = ""
        self.queue: SentQueue | None = None
        self.jid: JID | None = None

    # -- input

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the connection (a whole message on WebSocket); returns what they mean."""
        self._now = now
        events: list[Event] = []
        fault: XmlFault | None = None
        try:
            items = self.framing.feed(data)
        except XmlFault as raised:
            fault = raised
            items = raised.items
        self._take(items, events)
        if self.state is State.SECURING and not self.framing.is_between_stanzas:
            fault = XmlFault("policy-violation", "data between STARTTLS and the handshake")
        if fault is not None and self.state is not State.CLOSED:
            if self.state is State.CLOSING:
                self.state = State.CLOSED
                events.append(StreamClosed())
            else:
                self._refuse(fault.condition, fault.text, events)
        return events

    def _take(self, items: list[Item], events: list[Event]) -> None:
        for item in items:
            state = self.state
            if state is State.BOUND and type(item) is tuple:
                element, raw = item
                tag = element.tag
                if tag in _ORDINARY or (tag == IQ and not self._is_session_iq(element)):
                    position = self._position = self._position + 1
                    events.append(StanzaReceived(element, raw, position))
                else:
                    self._control(element, events)
            elif state is State.CLOSED:
                return
            elif isinstance(item, StreamEnd):
                self.end()
                self.state = State.CLOSED
                events.append(StreamClosed())
            elif state is State.BOUND:
                self._refuse("bad-format", "unexpected stream header", events)
            elif state is not State.CLOSING:
                self._negotiate(item, events)

    def _negotiate(self, item: Item, events: list[Event]) -> None:
        if isinstance(item, tuple) and KINDS.get(item[0].tag) is Kind.ERROR:
            self._peer_failed(item[0], events)
            return
        assert self._negotiation is not None
        self._negotiation.handle(item)
        self._collect(events)

    def _collect(self, events: list[Event]) -> None:
        negotiation = self._negotiation
        assert negotiation is not None
        if any(isinstance(event, StreamFailed) for event in negotiation.events):
            self._deadline = None
            events[:] = [event for event in events if not isinstance(event, TlsRequested)]
        for event in negotiation.events:
            if isinstance(event, VerifierNeeded):
                self._hash_name = event.hash_name
        events += negotiation.events
        negotiation.events.clear()

    def _refuse(self, condition: str, text: str, events: list[Event], application: str = "") -> None:
        events[:] = [event for event in events if not isinstance(event, TlsRequested)]
        events.append(self.fail(condition, text, application))
        self._deadline = None

    def _is_session_iq(self, element: Element) -> bool:
        return len(element) > 0 and element[0].tag in (_SESSION_TAG, _BIND_TAG) and element.get("type") == "set"

    def _control(self, element: Element, events: list[Event]) -> None:
        """What is neither a message nor a presence nor an ordinary IQ, on a bound stream."""
        kind = KINDS.get(element.tag, Kind.OTHER)
        if kind is Kind.CONTROL:
            if element.tag == _REQUEST_TAG:
                if self._base is not None:
                    events.append(AckRequested(self._position))
            elif element.tag == _ACK_TAG:
                self._acknowledged(element, events)
            else:
                events.append(ClientState(element.tag == _ACTIVE_TAG))
        elif kind is Kind.STANZA:
            self._session_iq(element)
        elif kind is Kind.ENABLE:
            self._enable(element, events)
        elif kind is Kind.RESUME:
            self.write(failed("unexpected-request"))
        elif kind is Kind.ERROR:
            self._peer_failed(element, events)
        else:
            self._refuse(refusal(State.BOUND, kind), "", events)

    def _session_iq(self, element: Element) -> None:
        """RFC 3921's session is granted and means nothing; a second resource is refused (RFC 6120 s7.6.2.2)."""
        position = self._position = self._position + 1
        identifier = attribute("id", element.get("id", ""))
        if element[0].tag == _SESSION_TAG:
            reply = f"<iq type='result'{identifier}/>"
        else:
            reply = f"<iq type='error'{identifier}><error type='cancel'><not-allowed xmlns='{ns.STANZA_ERRORS}'/></error></iq>"
        self.send(reply.encode())
        self.handled(position)

    def _enable(self, element: Element, events: list[Event]) -> None:
        if self._base is not None:
            self.write(failed("unexpected-request"))
            self._refuse("policy-violation", "stream management is enabled already", events)
            return
        self._base = self._position
        events.append(enable_wanted(element))

    def _acknowledged(self, element: Element, events: list[Event]) -> None:
        if self.queue is None:
            return
        h = counter(element.get("h", ""))
        if h is None:
            self._refuse("bad-format", "h is no counter", events)
            return
        try:
            events.append(AckReceived(h, self.queue.acknowledged(h)))
        except HandledCountTooHigh as error:
            self._too_high(error, events)

    def _too_high(self, error: HandledCountTooHigh, events: list[Event]) -> None:
        """XEP-0198 s4."""
        detail = f"<handled-count-too-high xmlns='{ns.STREAM_MANAGEMENT}' h='{error.h}' send-count='{error.sent}'/>"
        self._refuse("undefined-condition", "", events, detail)

    def _peer_failed(self, element: Element, events: list[Event]) -> None:
        """A stream error of the client: it closes, so do we (RFC 6120 s4.9.1.1)."""
        self.end()
        self.state = State.CLOSED
        self._deadline = None
        condition = element[0].tag.rpartition("}")[2] if len(element) else "undefined-condition"
        events.append(StreamClosed(condition))

    # -- time

    def next_deadline(self) -> float | None:
        """When `check_deadline` must be called, on the clock of ``now``; None for never."""
        return self._deadline

    def check_deadline(self, now: float) -> list[Event]:
        """End a stream that did not get on (S-140)."""
        if self._deadline is None or now < self._deadline or self.state is State.CLOSED:
            return []
        self._now = now
        events: list[Event] = []
        if self.state is State.CLOSING:
            self.state = State.CLOSED
            events.append(StreamClosed())
        else:
            self._refuse("connection-timeout", "login took too long", events)
        self._deadline = None
        return events

    def idle(self) -> None:
        """Give memory back; call when nothing has come for a while."""
        self.framing.idle()

    # -- commands until a resource is bound

    def _login(self) -> Negotiation:
        if self._negotiation is None or self.state in (State.CLOSING, State.CLOSED):
            raise ProtocolMisuse(f"stream is {self.state.name}")
        return self._negotiation

    def start_tls(self) -> None:
        """Send the answer to `TlsRequested`; begin the handshake when it is written."""
        self._login().start_tls()

    def tls_established(self, bindings: Mapping[str, bytes]) -> None:
        """The handshake is done; ``bindings`` are the channel's, type to data. The client opens its stream anew."""
        login = self._login()
        if self.state is not State.SECURING:
            raise ProtocolMisuse("no TLS was asked for")
        login.secure = True
        login.bindings = dict(bindings)
        self.framing.restart()
        self.opened = False
        self.state = State.OPENING

    def tls_refused(self) -> None:
        """TLS is not to be had; the stream is over (RFC 6120 s5.4.2.2)."""
        self._login().tls_refused()
        self._deadline = None

    def verifier(self, found: Verifier | None) -> list[Event]:
        """Answer `VerifierNeeded`; None where the account does not exist, has no such verifier or may not log in."""
        login = self._login()
        login.verifier(found, self._hash_name)
        return self._settle()

    def password_result(self, is_right: bool) -> list[Event]:
        """Answer `PasswordPresented`."""
        self._login().answer(is_right)
        return self._settle()

    def accept(self) -> list[Event]:
        """Answer `Authenticated`: let the account in."""
        self._login().accept()
        return self._settle()

    def reject(self, condition: str, text: str = "") -> list[Event]:
        """Answer `Authenticated` or another question of the login with a refusal of RFC 6120 s6.5."""
        self._login().reject(condition, text)
        return self._settle()

    def bound(self, jid: JID, extra: Sequence[Element] = ()) -> list[Event]:
        """Answer `BindRequested`; ``extra`` goes into the answer of Bind 2 (archive metadata)."""
        login = self._login()
        if login.binding is None:
            raise ProtocolMisuse("nobody is logged in")
        if login.binding.bound(jid, extra):
            self.state = State.BOUND
        self.jid = jid
        return self._settle()

    def bind_failed(self, condition: str) -> list[Event]:
        """Answer `BindRequested` with a stanza error: ``conflict``, ``resource-constraint``, ``bad-request``."""
        login = self._login()
        if login.binding is None:
            raise ProtocolMisuse("nobody is logged in")
        login.binding.bind_failed(condition)
        return self._settle()

    def resumed(self, jid: JID, previd: str, h: int, handled: int, queue: SentQueue) -> list[Event]:
        """Answer `ResumeRequested`: the session of ``jid`` goes on here.

        ``h`` is the client's count from the request, ``handled`` ours of the old stream, ``queue`` what the old stream
        had not got acknowledged: what ``h`` leaves of it is sent again. Returns an `AckReceived` if ``h`` released
        something.
        """
        login = self._login()
        if login.binding is None:
            raise ProtocolMisuse("nobody is logged in")
        events: list[Event] = []
        try:
            released = queue.acknowledged(h)
        except HandledCountTooHigh as error:
            self._too_high(error, events)
            return events
        login.binding.resumed(
            f"<resumed xmlns='{ns.STREAM_MANAGEMENT}' h='{handled % WRAP}'{attribute('previd', previd)}/>"
        )
        if released:
            events.append(AckReceived(h, released))
        self.jid = jid
        self.queue = queue
        self._base = -handled
        self.state = State.BOUND
        for item in queue.unacknowledged():
            self._out.append(self.framing.element(item.data))
        if len(queue):
            self.request_ack()
        return events + self._settle()

    def resume_failed(self, condition: str, h: int | None = None) -> list[Event]:
        """Answer `ResumeRequested`: ``item-not-found``; ``h`` is how far the lost session had come, if known."""
        login = self._login()
        if login.binding is None:
            raise ProtocolMisuse("nobody is logged in")
        login.binding.resume_failed(failed(condition, h))
        return self._settle()

    def _settle(self) -> list[Event]:
        """After an answer: gather events, take what had to wait, drop what is not needed any more."""
        events: list[Event] = []
        negotiation = self._negotiation
        assert negotiation is not None
        self._collect(events)
        if self.state is State.BOUND:
            self._negotiation = None
            self._deadline = None
        if self.state in (State.BOUND, State.AUTHENTICATED) and negotiation.waiting:
            waiting = negotiation.waiting
            negotiation.waiting = []
            self._take(waiting, events)
        return events

    # -- commands of a bound stream

    def enabled(self, queue: SentQueue, resume_id: str | None = None, max_seconds: int | None = None) -> list[Event]:
        """Answer `SmEnableRequested`; with ``resume_id`` the session may be resumed for ``max_seconds``."""
        if self.queue is not None:
            raise ProtocolMisuse("stream management is enabled already")
        answer = f"<enabled xmlns='{ns.STREAM_MANAGEMENT}'"
        if resume_id is not None:
            answer += attribute("id", resume_id) + " resume='true'"
            if max_seconds is not None:
                answer += f" max='{max_seconds}'"
        return self._manage(answer + "/>", queue)

    def sm_failed(self, condition: str) -> list[Event]:
        """Answer `SmEnableRequested`: ``internal-server-error``, ``feature-not-implemented``."""
        return self._manage(failed(condition), None)

    def _manage(self, answer: str, queue: SentQueue | None) -> list[Event]:
        login = self._negotiation
        if login is not None and login.binding is not None and login.binding.is_enabling:
            login.binding.managed(answer)
            self.queue = queue
            self._base = self._position if queue is not None else None
            return self._settle()
        if self.state is not State.BOUND or self._base is None:
            raise ProtocolMisuse("stream management was not asked for")
        self.write(answer)
        self.queue = queue
        if queue is None:
            self._base = None
        return []

    def send(self, data: bytes, mailbox_id: int | None = None) -> None:
        """Queue one stanza written for a ``jabber:client`` context.

        With stream management it is kept, with its archive id, until it is acknowledged: look at ``queue.is_full``.
        """
        if self.queue is not None:
            self.queue.sent(SentItem(mailbox_id, data))
        self._out.append(self.framing.element(data))

    def send_stanza(self, element: Element) -> None:
        """Queue one stanza."""
        self.send(serialise(element).encode())

    def handled(self, position: int) -> None:
        """The stanza at ``position`` is safe. ``h`` moves when all before it are safe too (XEP-0198 s4)."""
        if position == self._handled + 1:
            early = self._early
            if early:
                while position + 1 in early:
                    position += 1
                    early.discard(position)
            self._handled = position
        elif self._handled < position <= self._position:
            if self._early is None:
                self._early = set()
            self._early.add(position)
        else:
            raise ProtocolMisuse(f"stanza {position} is handled already or was never received")

    @property
    def handled_count(self) -> int:
        """What `acknowledge` would say, not modulo; to be kept for a resumption."""
        return max(0, self._handled - (self._base or 0))

    def acknowledge(self) -> None:
        """Tell the client how far we are; nothing without stream management."""
        if self._base is not None and self.queue is not None:
            self.write(f"<a xmlns='{ns.STREAM_MANAGEMENT}' h='{self.handled_count % WRAP}'/>")

    def request_ack(self) -> None:
        """Ask the client how far it is; nothing without stream management."""
        if self.queue is not None:
            self.write(_REQUEST)

    def close(self, condition: str | None = None, text: str = "") -> None:
        """End the stream, with a stream error if ``condition`` is given.

        Without one the client's footer is waited for (`StreamClosed`) until the next deadline.
        """
        if self.state in (State.CLOSING, State.CLOSED):
            return
        self._negotiation = None
        if condition is not None:
            self.fail(condition, text)
            self._deadline = None
            return
        self.end()
        self.state = State.CLOSING
        self._deadline = self._now + self._limits.closing_seconds
