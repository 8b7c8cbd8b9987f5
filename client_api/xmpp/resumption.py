"""Sessions that can be resumed, over a lost connection and over a restart (XEP-0198 s5)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Final

import msgspec
import structlog

from client_api.xmpp.session import XmppSession
from homeserver.domain.accounts import Account
from homeserver.services.clock import Clock
from homeserver.services.delivery import Delivery
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.sessions import Sessions
from homeserver.services.streams import SavedStream, Streams

log = structlog.get_logger(__name__)

ID_BYTES: Final = 18


class State(msgspec.Struct, frozen=True):
    """What a stream's row keeps of a session besides its counters."""

    lang: str = ""
    wants_copies: bool = False
    wants_roster: bool = False
    priority: int | None = None
    presence: str = ""
    device: str | None = None


@dataclass(slots=True)
class Hibernating:
    """A session without a connection, and the timer that ends it."""

    session: XmppSession
    timer: asyncio.TimerHandle


class Resumption:
    """Knows every resumable session of this process by its stream id.

    ``seconds`` is how long a session may be away. Ending one passes what it never acknowledged on.
    """

    def __init__(
        self,
        streams: Streams,
        sessions: Sessions,
        delivery: Delivery,
        mailboxes: Mailboxes,
        clock: Clock,
        seconds: float,
    ) -> None:
        self._streams = streams
        self._sessions = sessions
        self._delivery = delivery
        self._mailboxes = mailboxes
        self._clock = clock
        self.seconds = seconds
        self._live: dict[str, XmppSession] = {}
        self._away: dict[str, Hibernating] = {}
        self.on_gone: list[Callable[[XmppSession], None]] = []

    async def enable(self, session: XmppSession) -> str:
        """Make a session resumable: its row is durable when this returns its stream id."""
        stream = token_urlsafe(ID_BYTES)
        position = self._mailboxes.settled(session.account)
        if session.priority is not None:
            position = max(position, self._mailboxes.newest())
        now = self._clock.now()
        await self._streams.insert(
            SavedStream(
                stream,
                session.account.id,
                session.jid.resource,
                session.received,
                0,
                position,
                self._state(session),
                now,
                now + self.seconds,
            )
        )
        session.stream = stream
        self._live[stream] = session
        return stream

    def find(self, stream: str, account: Account) -> XmppSession | None:
        """A session of this process by stream id; only its own account may take it (XEP-0198 s5)."""
        session = self._live.get(stream)
        return session if session is not None and session.account.id == account.id else None

    async def load(self, stream: str, account: Account) -> tuple[SavedStream, State] | None:
        """The row of a stream that an earlier process served, or None."""
        saved = await self._streams.load(stream)
        if saved is None or saved.account != account.id or saved.expires < self._clock.now():
            return None
        return saved, msgspec.json.decode(saved.state, type=State)

    def adopt(self, session: XmppSession) -> None:
        """Register a session that was rebuilt from its row."""
        if session.stream is not None:
            self._live[session.stream] = session

    def changed(self, session: XmppSession) -> None:
        """The session's presence or wishes changed; the row follows with the next commit."""
        if session.stream is not None:
            self._streams.state(session.stream, self._state(session), self._clock.now() + self.seconds)

    def handled(self, session: XmppSession) -> None:
        """Put the session's inbound counter into the open commit."""
        if session.stream is not None:
            self._streams.counter(session.stream, session.received)

    def acknowledged(self, session: XmppSession, sent: int, position: int) -> None:
        """The client acknowledged ``sent`` stanzas; ``position`` is the highest message among them."""
        if session.stream is not None and position:
            self._streams.position(session.stream, sent, position)

    def lost(self, session: XmppSession) -> None:
        """The connection is gone without a farewell: wait for it, or end the session."""
        session.link = None
        stream = session.stream
        if stream is None:
            self.end(session)
            return
        self.changed(session)
        timer = asyncio.get_running_loop().call_later(self.seconds, self.end, session)
        self._away[stream] = Hibernating(session, timer)

    def returned(self, session: XmppSession) -> None:
        """A new connection took the session over."""
        if session.stream is not None:
            away = self._away.pop(session.stream, None)
            if away is not None:
                away.timer.cancel()

    def end(self, session: XmppSession) -> None:
        """The session is over for good."""
        session.link = None
        if session.stream is not None:
            self.returned(session)
            self._live.pop(session.stream, None)
            self._streams.forget(session.stream)
        for listener in self.on_gone:
            listener(session)
        if session.queue is not None:
            self._delivery.redeliver(session, session.queue.unacknowledged())
        self._sessions.unbind(session)

    def stop(self) -> None:
        """The process ends: sessions stay resumable, their timers do not."""
        for away in self._away.values():
            away.timer.cancel()

    @staticmethod
    def _state(session: XmppSession) -> bytes:
        presence = "" if session.presence is None else session.presence.encode().decode()
        return msgspec.json.encode(
            State(session.lang, session.wants_copies, session.wants_roster, session.priority, presence, session.device)
        )
