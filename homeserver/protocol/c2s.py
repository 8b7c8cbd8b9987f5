"""A client's stream as the server sees it: bytes in, events out, commands in, bytes out.

Contract. `ServerStream.receive` never raises for what a client sends: it answers with events (`stream_events`), and a
client's fault ends as `StreamFailed` after the RFC 6120 s4.9 error was queued. Commands answer events; a command that
has no meaning in the present state raises `ProtocolMisuse`. Until a resource is bound the list of events is alive: an
answer appends to the list from the last `receive` what it sets off (the next question, or what the client had sent in
advance), so keep an iterator over it while an answer is fetched. After every `receive`, command and `check_deadline`, write what `data_to_send` returns
(`messages_to_send` on WebSocket). After `StreamFailed` or `StreamClosed`, send the rest and close the connection.
Nothing reads a clock: ``now`` is seconds on any steady clock, `next_deadline` says when to call `check_deadline`.

==================== ==============================================================================
event                answered by
==================== ==============================================================================
TlsRequested         start_tls(), then tls_established(bindings) once the handshake is done; tls_refused()
VerifierNeeded       verifier(found)
PasswordPresented    password_result(is_right)
TokensNeeded         tokens(found)
UpgradesWanted       upgrades(salts)
UpgradeOffered       upgraded()
Authenticated        accept(issued) or reject(condition)
PreAuthIq            send_stanza(reply)
BindRequested        bound(jid, extra) or bind_failed(condition)
SmEnableRequested    enabled(queue, resume_id, max_seconds) or sm_failed(condition)
ResumeRequested      resumed(queue, h, handled, jid) or resume_failed(condition, h)
StanzaReceived       handled(position), when the stanza is safe, in any order
AckRequested         acknowledge(), at once or when everything up to its position is handled
==================== ==============================================================================

The states are in `stream`. What is needed only until a resource is bound lives in `negotiation` and `binding` and is
dropped then; a bound stream is a few slots.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.binding import counter, enable_wanted, failed
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import Framing
from homeserver.protocol.login_stream import LoginStream
from homeserver.protocol.parser import Item, StreamEnd, XmlFault
from homeserver.protocol.sm import WRAP, HandledCountTooHigh, SentItem, SentQueue
from homeserver.protocol.stanza import IQ, MESSAGE, PRESENCE
from homeserver.protocol.stream import KINDS, Kind, ProtocolMisuse, State, attribute, refusal
from homeserver.protocol.stream_events import (
    AckReceived,
    AckRequested,
    ClientState,
    Event,
    StanzaReceived,
    StreamClosed,
    StreamFailed,
    TlsRequested,
)
from homeserver.protocol.xml import Element, serialise

_ORDINARY: Final = frozenset((MESSAGE, PRESENCE))
_SESSION_TAG: Final = f"{{{ns.SESSION}}}session"
_BIND_TAG: Final = f"{{{ns.BIND}}}bind"
_ACK_TAG: Final = f"{{{ns.STREAM_MANAGEMENT}}}a"
_REQUEST_TAG: Final = f"{{{ns.STREAM_MANAGEMENT}}}r"
_ACTIVE_TAG: Final = f"{{{ns.CLIENT_STATE}}}active"
SETTLE_SECONDS: Final = 1.0
"""After that long without input a stream that has logged in gives its parser back: a quarter of its memory."""
IDLE_SECONDS: Final = 10.0
"""The same for one that has given it back before."""
DOZE_SECONDS: Final = 60.0
"""How often a stream without a parser is looked at."""
ANSWER_SECONDS: Final = 120.0
"""A client that was asked whether it is there has this long to say anything."""
_REQUEST: Final = f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>"


def random_id() -> str:
    """128 random bits as text that may stand in attributes and SCRAM nonces."""
    return secrets.token_urlsafe(16)


class ServerStream(LoginStream):
    """One client connection. See the module for the contract.

    ``secure`` tells that TLS is on already (direct TLS, ``wss:``), ``bindings`` its channel bindings: type to data,
    such as ``{"tls-server-end-point": digest}``. ``make_id`` makes stream ids and nonces.
    """

    __slots__ = ("_asked", "_early", "_heard", "_now", "_patience")

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
        super().__init__(framing, limits, options, now, make_id)
        self._now = now
        self._heard = now
        self._asked = False
        self._patience = SETTLE_SECONDS
        self._early: set[int] | None = None  # safe positions beyond `_handled`
        login = self._login()
        login.secure = secure
        login.bindings = dict(bindings or {})

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come: write what is left and close the connection."""
        return self.state is State.CLOSED

    # -- input

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the connection (a whole message on WebSocket); returns what they mean.

        Until a resource is bound the list is alive: answers given while it is worked off append what they set off.
        """
        self._now = self._heard = now
        events: list[Event] = []
        if self._negotiation is not None:
            self._negotiation.share(events)
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
                self._finish(events, StreamClosed())
            else:
                self._refuse(fault.condition, fault.text, events)
        return events

    def _finish(self, events: list[Event], event: StreamClosed | StreamFailed) -> None:
        """It is over; a handshake asked for in the same breath is void."""
        self.state = State.CLOSED
        self._deadline = None
        events[:] = [earlier for earlier in events if not isinstance(earlier, TlsRequested)]
        events.append(event)

    def _refuse(self, condition: str, text: str, events: list[Event]) -> None:
        self._finish(events, self.fail(condition, text))

    def _take(self, items: list[Item], events: list[Event]) -> None:
        for item in items:
            state = self.state
            if state is State.BOUND and type(item) is tuple:
                element, raw = item
                tag = element.tag
                if tag in _ORDINARY or (tag == IQ and not self._is_session_iq(element)):
                    if self.is_managed:
                        self._position += 1
                    events.append(StanzaReceived(element, raw, self._position))
                else:
                    self._control(element, events)
            elif state is State.CLOSED:
                return
            elif isinstance(item, StreamEnd):
                self.end()
                self._finish(events, StreamClosed())
            elif state is State.BOUND:
                self._refuse("bad-format", "unexpected stream header", events)
            elif state is not State.CLOSING:
                self._negotiate(item, events)

    def _negotiate(self, item: Item, events: list[Event]) -> None:
        if isinstance(item, tuple) and KINDS.get(item[0].tag) is Kind.ERROR:
            self._peer_failed(item[0], events)
            return
        self._login().handle(item)
        if self.state is State.CLOSED:
            self._deadline = None

    def _is_session_iq(self, element: Element) -> bool:
        return len(element) > 0 and element[0].tag in (_SESSION_TAG, _BIND_TAG) and element.get("type") == "set"

    def _control(self, element: Element, events: list[Event]) -> None:
        """What is neither a message nor a presence nor an ordinary IQ, on a bound stream."""
        kind = KINDS.get(element.tag, Kind.OTHER)
        if kind is Kind.CONTROL:
            if element.tag == _REQUEST_TAG:
                if self.is_managed:
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
        if self.is_managed:
            self._position += 1
        identifier = attribute("id", element.get("id", ""))
        if element[0].tag == _SESSION_TAG:
            reply = f"<iq type='result'{identifier}/>"
        else:
            reply = f"<iq type='error'{identifier}><error type='cancel'><not-allowed xmlns='{ns.STANZA_ERRORS}'/></error></iq>"
        if self.queue is not None:
            self.queue.sent(SentItem(None, reply.encode()))
        self.write(reply)
        self.handled(self._position)

    def _enable(self, element: Element, events: list[Event]) -> None:
        if self.is_managed:
            self.write(failed("unexpected-request"))
            self._refuse("policy-violation", "stream management is enabled already", events)
            return
        self.is_managed = True
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
            events.append(self._too_high(error))

    def _peer_failed(self, element: Element, events: list[Event]) -> None:
        """A stream error of the client: it closes, so do we (RFC 6120 s4.9.1.1)."""
        self.end()
        condition = element[0].tag.rpartition("}")[2] if len(element) else "undefined-condition"
        self._finish(events, StreamClosed(condition))

    # -- time

    def next_deadline(self) -> float | None:
        """When `check_deadline` must be called, on the clock of ``now``; None for never."""
        if self.state is State.BOUND:
            return self._now + (self._patience if self.framing.is_awake else DOZE_SECONDS)
        return self._deadline

    def check_deadline(self, now: float) -> list[Event]:
        """End a stream that does not get on (S-140); let one that is silent give its memory back."""
        events: list[Event] = []
        if self.state is State.BOUND:
            if now >= self._now + self._patience:
                self.framing.idle()
                self._now = now
                self._patience = IDLE_SECONDS
            idle = self._limits.idle_seconds
            if idle and now >= self._heard + idle:
                self._doubt(now - self._heard - idle, events)
            else:
                self._asked = False
            return events
        if self._deadline is None or now < self._deadline or self.state is State.CLOSED:
            return events
        if self.state is State.CLOSING:
            self._finish(events, StreamClosed())
        else:
            self._refuse("connection-timeout", "login took too long", events)
        return events

    def _doubt(self, silence: float, events: list[Event]) -> None:
        """Ask a client that says nothing whether it is there; end the stream of one that is not (RFC 6120 s4.6)."""
        if not self._asked:
            self._asked = True
            if self.is_managed:
                self.write(_REQUEST)
            else:
                self.write(
                    f"<iq type='get' id='idle'{attribute('from', self.domain)}{attribute('to', str(self.jid))}>"
                    f"<ping xmlns='{ns.PING}'/></iq>"
                )
        elif silence >= ANSWER_SECONDS:
            self._refuse("connection-timeout", "nothing was heard for too long", events)

    # -- commands of a bound stream

    def enabled(self, queue: SentQueue, resume_id: str | None = None, max_seconds: int | None = None) -> None:
        """Answer `SmEnableRequested`; with ``resume_id`` the session may be resumed for ``max_seconds``.

        From now on whoever sends puts each stanza into ``queue`` too, so that it is there when no connection is.
        """
        answer = f"<enabled xmlns='{ns.STREAM_MANAGEMENT}'"
        if resume_id is not None:
            answer += attribute("id", resume_id) + " resume='true'"
            if max_seconds is not None:
                answer += f" max='{max_seconds}'"
        self._manage(answer + "/>", queue)

    def sm_failed(self, condition: str) -> None:
        """Answer `SmEnableRequested`: ``internal-server-error``, ``feature-not-implemented``."""
        self._manage(failed(condition), None)

    def _manage(self, answer: str, queue: SentQueue | None) -> None:
        login = self._negotiation
        is_inline = login is not None and login.binding is not None and login.binding.is_enabling
        if self.queue is not None or not (is_inline or (self.state is State.BOUND and self.is_managed)):
            raise ProtocolMisuse("stream management was not asked for")
        self.queue = queue
        self.is_managed = queue is not None
        if login is not None and login.binding is not None:
            login.binding.managed(answer, self.is_managed)
            self._settle()
        else:
            self.write(answer)

    def send(self, data: bytes) -> None:
        """Queue one stanza written for a ``jabber:client`` context; on a managed stream put it into the queue first."""
        self._out.append(self.framing.element(data))

    def send_stanza(self, element: Element) -> None:
        """The same from an element."""
        self._out.append(self.framing.element(serialise(element).encode()))

    def handled(self, position: int) -> None:
        """The stanza at ``position`` is safe. ``h`` moves when all before it are safe too (XEP-0198 s4).

        Position 0 is that of all stanzas before stream management: they are not counted.
        """
        if position == self._handled + 1 and position <= self._position:
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
        elif position:
            raise ProtocolMisuse(f"stanza {position} is handled already or was never received")

    @property
    def handled_count(self) -> int:
        """What `acknowledge` would say, not modulo; to be kept for a resumption."""
        return self._handled

    def acknowledge(self) -> None:
        """Tell the client how far we are; nothing without stream management."""
        if self.queue is not None:
            self.write(f"<a xmlns='{ns.STREAM_MANAGEMENT}' h='{self._handled % WRAP}'/>")

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
