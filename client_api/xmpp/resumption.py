"""Sessions that can be resumed, over a lost connection and over a restart (XEP-0198 s5)."""

import asyncio
from secrets import token_urlsafe
from typing import Final

import msgspec

from client_api.xmpp.session import XmppSession
from homeserver.domain.accounts import Account
from homeserver.services.clock import Clock
from homeserver.services.delivery import Delivery, takes
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.sessions import Sessions
from homeserver.services.streams import ResumableStream, Streams

ID_BYTES: Final = 18


class State(msgspec.Struct, frozen=True):
    """What a stream's row keeps of a session besides its counters."""

    lang: str = ""
    wants_copies: bool = False
    wants_roster: bool = False
    priority: int | None = None
    presence: str = ""
    device: str | None = None
    since: int = 0
    wants_blocks: bool = False


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
        self._away: dict[XmppSession, asyncio.TimerHandle] = {}

    async def enable(self, session: XmppSession) -> str:
        """Make a session resumable: its row is durable when this returns its stream id."""
        stream = token_urlsafe(ID_BYTES)
        session.since = position = self._mailboxes.newest()
        await self._mailboxes.durable()
        if session.priority is None:
            waiting = await self._mailboxes.pending(session.account, 1)
            if waiting and waiting[0].id <= position:
                position = waiting[0].id - 1
        now = self._clock.now()
        row = ResumableStream(
            stream,
            session.account.id,
            session.jid.resource,
            session.received,
            0,
            position,
            self._state(session),
            now,
            now + self.seconds,
            client=session.device,
        )
        session.kept = session.wishes()
        await self._streams.add(row)
        session.stream = stream
        session.position = position
        self._live[stream] = session
        return stream

    def find(self, stream: str, account: Account) -> XmppSession | None:
        """A session of this process by stream id; only its own account may take it (XEP-0198 s5)."""
        session = self._live.get(stream)
        return session if session is not None and session.account.id == account.id else None

    async def load(self, stream: str, account: Account) -> tuple[ResumableStream, State] | None:
        """The row of a stream that an earlier process served, or None."""
        await self._mailboxes.durable()  # the end of a stream too
        saved = await self._streams.find(stream)
        if saved is None or saved.account != account.id:
            return None
        return saved, msgspec.json.decode(saved.state, type=State)

    async def reached(self, stream: str, handled: int, position: int) -> None:
        """A client of an earlier process says how many stanzas it has; durable when this returns.

        What it was said to have been sent is void: what comes now is counted from here.
        """
        self._streams.mark(stream, handled, position)
        self._streams.position(stream, handled, position)
        await self._mailboxes.durable()

    def adopt(self, session: XmppSession, stream: str) -> None:
        """Register a session that was rebuilt from its row."""
        session.stream = stream
        self._live[stream] = session

    def changed(self, session: XmppSession) -> None:
        """If the session's presence or wishes are not what its row says, the row follows with the next commit."""
        if session.stream is not None and session.kept != session.wishes():
            session.kept = session.wishes()
            self._streams.keep(session.stream, self._state(session), self._clock.now() + self.seconds)

    def handled(self, session: XmppSession) -> None:
        """Put the session's inbound counter into the open commit."""
        if session.stream is not None:
            self._streams.counter(session.stream, session.received)

    def acknowledged(self, session: XmppSession, highest: int) -> None:
        """The client acknowledged stanzas; ``highest`` is the highest message id among them, 0 without any.

        The count is kept for every acknowledgement, so that a later process knows what the client's count covers.
        """
        if takes(session):
            # Else what waits for it is older than what was sent to its full JID, and still to come.
            session.position = max(session.position, highest)
        if session.stream is not None and session.queue is not None:
            self._streams.position(session.stream, session.queue.acknowledged_count, session.position)

    def mark(self, stream: str, sent: int, position: int) -> None:
        """A message was sent; the row follows with the next commit."""
        self._streams.mark(stream, sent, position)

    def lost(self, session: XmppSession, farewell: bool) -> None:
        """The connection is gone. Without a farewell a resumable session waits for a new one."""
        session.link = None
        if session.stream is None or session.queue is None or farewell:
            self.end(session)
            return
        session.looked_at(True)
        if session.stream is None:
            return  # with what was held, too much waits: it has ended
        session.kept = None  # the row's term begins anew
        self.changed(session)
        self._delivery.stranded(session.account, session.unacknowledged())
        self._away[session] = asyncio.get_running_loop().call_later(self.seconds, self.end, session)

    async def durable(self) -> None:
        """Returns when everything clients sent so far is durable and counted."""
        await self._mailboxes.durable()

    def returned(self, session: XmppSession) -> None:
        """A new connection took the session over."""
        timer = self._away.pop(session, None)
        if timer is not None:
            timer.cancel()

    def end(self, session: XmppSession) -> None:
        """The session is over for good."""
        session.link = None
        self.returned(session)
        if session.stream is not None:
            self._live.pop(session.stream, None)
            self._streams.forget(session.stream)
            session.stream = None
        unacknowledged = session.give_back()
        self._sessions.unbind(session)
        self._delivery.redeliver(session, unacknowledged)

    def sleep(self, session: XmppSession) -> None:
        """The process ends: the row stays, and with it the session."""
        session.kept = None
        self.changed(session)

    def stop(self) -> None:
        """No timers any more."""
        for timer in self._away.values():
            timer.cancel()

    @staticmethod
    def _state(session: XmppSession) -> bytes:
        presence = "" if session.presence is None else session.presence.encode().decode()
        return msgspec.json.encode(
            State(
                session.lang,
                session.wants_copies,
                session.wants_roster,
                session.priority,
                presence,
                session.device,
                session.since,
                session.wants_blocks,
            )
        )
