"""From a stored message to the sessions of its owners.

Rules: RFC 6121 s8.5 for who gets it, XEP-0280 for copies, XEP-0160 for what waits. A message is *handed* when a session
was given it and *settled* when that session acknowledged it. What is not settled stays waiting in the mailbox, so a
session that dies with it, or a server that does, loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

import structlog

from homeserver.domain.accounts import Account
from homeserver.domain.messages import COPY, KEEP, Entry, Kind, Message, Relation, Stored
from homeserver.domain.sessions import Session
from homeserver.protocol.jid import JID
from homeserver.services.backlog import (
    Gate,
    Held,
    Past,
    Stretch,
    Unreadable,
    addressee,
    is_surely_given,
    relation_to,
    restored,
)
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.sessions import Sessions

log = structlog.get_logger(__name__)

FLUSH_PAGE: Final = 100
BURST_BYTES: Final = 65_536
"""So much of what waited is given without looking whether there is room for more."""
ROOM_SECONDS: Final = 60.0
MAX_HELD: Final = 10_000
MAX_HELD_BYTES: Final = 16 * 1024 * 1024
"""Live messages that a session may have behind its gate, and their size."""
_DIRECT: Final = Relation.DIRECT  # a member is found by a call, a name of the module is not


class Delivery:
    """Gives sessions what is theirs, in the order of the log.

    ``on_waiting`` is called with a message that no session took, ``on_stranded`` with those that a session took and did
    not acknowledge, when its connection is lost.
    """

    def __init__(self, sessions: Sessions, mailboxes: Mailboxes) -> None:
        self._sessions = sessions
        self._mailboxes = mailboxes
        self._handed: dict[int, int] = {}
        self._acknowledged: dict[int, int] = {}
        self._ends = 0
        self._joined: dict[Session, int] = {}
        self._gates: dict[Session, Gate] = {}
        self._unfinished: dict[Session, Gate] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_waiting: list[Callable[[Account, Stored], None]] = []
        self.on_stranded: list[Callable[[Account, Sequence[Stored]], None]] = []
        sessions.on_ended.append(self._ended)

    def received(self, stored: Stored, recipient: Account) -> None:
        """Give a message to the sessions of its recipient, or leave it waiting."""
        message = stored.message
        sessions = self._sessions.of(recipient.jid.bare)
        if not sessions:
            if message.treatment & KEEP:
                self._wait(recipient, stored)
            return
        target, ends = None, self._ends
        if message.to.resource:
            target = self._sessions.find(message.to)
            if target is None and message.kind not in (Kind.CHAT, Kind.NORMAL):
                if message.treatment & KEEP:
                    self._wait(recipient, stored)
                return
        if target is not None:
            self._give(target, stored, _DIRECT)
            if stored.id and not takes(target):
                target.has_read((stored.id,))  # what waits may be given to it later, and this is among it
            handed = True
            if message.treatment & COPY:
                for session in sessions:
                    if session is not target and session.wants_copies and session.priority is not None:
                        self._give(session, stored, Relation.RECEIVED_ELSEWHERE)
        else:
            handed = self._give_available(sessions, stored)
        if stored.id and message.treatment & KEEP:
            if handed and ends != self._ends:  # a session with too much unacknowledged ends by being given more
                handed = any(map(takes, self._sessions.of(recipient.jid.bare)))
            if not handed:
                self._wait(recipient, stored)
            elif target is None or any(map(takes, sessions)):
                self._handed[recipient.id] = stored.id

    def sent(self, stored: Stored, sender: Account, source: JID) -> None:
        """Give the sender's other sessions their copy (XEP-0280 s8)."""
        if not stored.message.treatment & COPY:
            return
        for session in self._sessions.of(sender.jid.bare):
            jid = session.jid
            if session.wants_copies and session.priority is not None and jid is not source and jid != source:
                self._give(session, stored, Relation.SENT_ELSEWHERE)

    def arrived(self, session: Session) -> None:
        """A session became available with a priority that takes messages: give it what waits.

        What it read from the archive before, on this connection, it is not given again (XEP-0160, XEP-0313). Live
        messages queue behind until it has caught up.
        """
        account = session.account.id
        handed = self._handed.get(account, 0)
        top = self._joined[session] = self._mailboxes.newest()
        self._handed[account] = max(handed, top)
        self._open(session, Stretch(handed, top))

    async def reached(self, session: Session, past: Past) -> int:
        """The id up to which a session of an earlier process has everything, before it is bound and `returned`.

        Where its count lies between what was written as acknowledged and as sent, the messages between are counted:
        the first of them that it has for certain need not come again.
        """
        if not past.is_partly_covered or not takes(session):
            return past.settled()
        entries: list[Entry] = []
        position = past.position
        while True:
            page = await self._mailboxes.behind(session.account, position, FLUSH_PAGE)
            entries += [entry for entry in page.entries if entry.id <= past.marked]
            if page.complete or not page.entries or page.entries[-1].id >= past.marked:
                break
            position = page.entries[-1].id
        covered = past.covered(sum(is_surely_given(entry, session, past) for entry in entries))
        position = past.position
        for entry in entries:
            if is_surely_given(entry, session, past) and covered:
                covered -= 1
            elif covered == 0 or relation_to(entry, session, past) is not None:
                break
            position = entry.id
        return position

    def returned(self, session: Session, position: int, past: Past) -> None:
        """A session of an earlier process came back: give it everything of its mailbox behind ``position``.

        Copies of other sessions' messages are among it, as they would have been live. One that is not available gets
        what waits for its full JID.
        """
        top = self._joined[session] = self._mailboxes.newest()
        if takes(session):
            self._handed[session.account.id] = max(self._handed.get(session.account.id, 0), top)
            self.settled(session, position)
        self._open(session, Stretch(position, top, past))

    def settled(self, session: Session, acknowledged: int, lazy: bool = False) -> None:
        """A session acknowledged every message up to an id; the mailbox may forget that they wait.

        What another session of the account still holds unacknowledged, or has not been given yet, keeps waiting.
        """
        account = session.account
        if not takes(session):
            handed = self._handed.get(account.id, 0)
            if acknowledged > handed:
                self._start(self._settle_directed(session, acknowledged))
                acknowledged = handed
        self._acknowledged[account.id] = max(acknowledged, self._acknowledged.get(account.id, 0))
        self._settle(account, lazy)

    def stranded(self, account: Account, unacknowledged: Sequence[Stored]) -> None:
        """A connection is lost, and with it what a session was given and did not acknowledge."""
        if unacknowledged:
            for listener in self.on_stranded:
                listener(account, unacknowledged)

    def redeliver(self, session: Session, unacknowledged: list[Stored]) -> None:
        """Pass on what a session took and never acknowledged, now that it is gone for good (XEP-0198 s5).

        What it had not been given yet follows.
        """
        gate = self._unfinished.pop(session, None)
        others = [other for other in self._sessions.of(session.jid.bare) if other is not session and takes(other)]
        self._pass_on(others, unacknowledged)
        self.stranded(session.account, [*unacknowledged, *([] if gate is None else gate.direct())])
        if gate is None:
            return
        for part in gate.parts:
            if isinstance(part, Held):
                if part.relation is Relation.DIRECT and part.stored.id and part.stored.id not in gate.given:
                    self._pass_on(others, [part.stored])
                continue
            for other in others:
                # Who joined before has had that; who joined later was left out because this session was to have it.
                if self._joined.get(other, 0) >= part.top:
                    self._open(other, Stretch(part.after, part.top))

    def _pass_on(self, others: Sequence[Session], messages: Sequence[Stored]) -> None:
        for stored in messages:
            for other in others:
                if stored.id <= self._joined.get(other, 0) or not self._had(other, stored.message):
                    self._give(other, stored, Relation.DIRECT, late=True)

    @staticmethod
    def _had(session: Session, message: Message) -> bool:
        return message.to.is_bare or (session.wants_copies and bool(message.treatment & COPY))

    def _give_available(self, sessions: Sequence[Session], stored: Stored) -> bool:
        handed = False
        copies = stored.message.treatment & COPY
        for session in sessions:
            priority = session.priority
            if priority is None:
                continue
            if priority >= 0:
                self._give(session, stored, _DIRECT)
                handed = True
            elif copies and session.wants_copies:
                self._give(session, stored, Relation.RECEIVED_ELSEWHERE)
        return handed

    def _give(self, session: Session, stored: Stored, relation: Relation, late: bool = False) -> None:
        if self._gates:
            gate = self._gates.get(session)
            if gate is not None:
                gate.parts.append(Held(stored, relation, late))
                gate.bytes += len(stored.message.payload)
                if len(gate.parts) > MAX_HELD or gate.bytes > MAX_HELD_BYTES:
                    session.disconnect("policy-violation", "Too much came before what waited was acknowledged")
                return
        session.deliver(stored, relation, late)

    def _wait(self, account: Account, stored: Stored) -> None:
        for listener in self.on_waiting:
            listener(account, stored)

    def _settle(self, account: Account, lazy: bool = False) -> None:
        """Settle what is acknowledged, less what a session holds or has yet to be given."""
        settled = self._acknowledged.get(account.id, 0)
        for session in self._sessions.of(account.jid.bare):
            held = session.oldest_unacknowledged()
            if held is not None and held <= settled:
                settled = held - 1
            gate = self._gates.get(session)
            if gate is not None and gate.reached < settled:
                settled = gate.reached
        if settled > 0:
            self._mailboxes.settle(account, settled, lazy)

    async def _settle_directed(self, session: Session, acknowledged: int) -> None:
        """A session that takes no messages to the bare JID acknowledged what was sent to itself. Others may wait
        between, so only what nothing waits before is settled."""
        settled = 0
        for entry in await self._mailboxes.pending(session.account, FLUSH_PAGE):
            if entry.id > acknowledged or addressee(entry) != str(session.jid):
                break
            settled = entry.id
        if settled:
            self._mailboxes.settle(session.account, settled)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- behind the gate ----------------------------------------------------------------------------------------------

    def _open(self, session: Session, stretch: Stretch) -> None:
        """Give a session a part of its mailbox; until it has it, what comes for it live is held."""
        gate = self._gates.get(session)
        if gate is not None:
            gate.parts.append(stretch)
            return
        self._gates[session] = gate = Gate(deque((stretch,)))
        self._start(self._catch_up(session, gate))

    def _is_open(self, session: Session, gate: Gate) -> bool:
        return self._gates.get(session) is gate

    async def _catch_up(self, session: Session, gate: Gate) -> None:
        try:
            while gate.parts and self._is_open(session, gate):
                part = gate.parts[0]
                if isinstance(part, Stretch):
                    await self._walk(session, gate, part)
                    if self._is_open(session, gate):
                        gate.parts.popleft()
                    continue
                gate.parts.popleft()
                gate.bytes -= len(part.stored.message.payload)
                if part.stored.id not in gate.given:
                    session.deliver(*part)
        except Exception:
            log.exception("what waits could not be read", account=session.jid.bare)
            session.disconnect("internal-server-error", "The mailbox cannot be read now")
        if self._is_open(session, gate):
            del self._gates[session]
            self._settle(session.account, lazy=True)

    async def _walk(self, session: Session, gate: Gate, stretch: Stretch) -> None:
        """Give one stretch. What was queued for the log before it was opened is durable then, and held if it came live
        since: it may be met in the mailbox as well, and is given once."""
        await self._mailboxes.durable()
        twice = {held.stored.id for held in gate.held() if held.stored.id <= stretch.top}
        past = stretch.past
        seen = session.already_read() if past is None else frozenset[int]()
        burst = 0
        if past is None or session.priority is None:
            stretch.after = max(stretch.after, await self._mailboxes.settled(session.account))
        leads = True
        while self._is_open(session, gate):
            entries, more = await self._page(session, stretch)
            for entry in entries:
                if entry.id > stretch.top or not self._is_open(session, gate):
                    return
                relation = Relation.DIRECT if past is None else relation_to(entry, session, past)
                if relation is None:
                    stretch.after = entry.id
                    continue
                if entry.id in seen:
                    stretch.after = entry.id
                    if leads:  # read from the archive and nothing before it waits: it need not wait either
                        self.settled(session, entry.id, lazy=True)
                    continue
                leads = False
                burst += len(entry.payload)
                if burst > BURST_BYTES or not session.has_room():
                    burst = 0
                    if not await self._room(session, gate):
                        return
                stretch.after = entry.id
                if entry.id in twice:
                    gate.given.add(entry.id)
                try:
                    session.deliver(restored(entry, session.jid), relation, True)
                except Unreadable:
                    # It stays in the log for whoever repairs it; what is behind it must not wait for that.
                    log.exception("message cannot be delivered", account=session.jid.bare, id=entry.id)
            if not more:
                break
        if session.uses_archive and past is None and self._is_open(session, gate):
            stretch.after = stretch.top  # the archive shows the rest (XEP-0386 s3.2)
            self.settled(session, stretch.top, lazy=True)

    async def _room(self, session: Session, gate: Gate) -> bool:
        """Wait until a session can be given more; false if it is gone. One that makes no room is ended."""
        await asyncio.sleep(0)  # what it was given so far leaves for the socket
        pause, patience = 0.01, ROOM_SECONDS
        while self._is_open(session, gate) and not session.has_room():
            if patience <= 0:
                session.disconnect("policy-violation", "What waited is not acknowledged")
                break
            await asyncio.sleep(pause)
            patience -= pause
            pause = min(2 * pause, 0.5)
        return self._is_open(session, gate)

    async def _page(self, session: Session, stretch: Stretch) -> tuple[Sequence[Entry], bool]:
        """What follows ``stretch.after``, and whether there may be more."""
        if stretch.past is None or session.priority is None:
            ask = self._mailboxes.pending_unarchived if session.uses_archive else self._mailboxes.pending
            waiting = await ask(session.account, FLUSH_PAGE, stretch.after)
            return waiting, len(waiting) == FLUSH_PAGE
        page = await self._mailboxes.behind(session.account, stretch.after, FLUSH_PAGE)
        return page.entries, not page.complete

    def _ended(self, session: Session) -> None:
        self._ends += 1
        gate = self._gates.pop(session, None)
        if gate is not None:
            self._unfinished[session] = gate
        self._joined.pop(session, None)
        if not any(takes(other) for other in self._sessions.of(session.jid.bare)):
            self._handed.pop(session.account.id, None)
            self._acknowledged.pop(session.account.id, None)


def takes(session: Session) -> bool:
    """Whether a session is given messages to the bare JID (RFC 6121 s8.5.2.1.1)."""
    return session.priority is not None and session.priority >= 0
