"""From a stored message to the sessions of its owners.

Rules: RFC 6121 s8.5 for who gets it, XEP-0280 for copies, XEP-0160 for what waits. A message is *handed* when a session
was given it and *settled* when that session acknowledged it. What is not settled stays waiting in the mailbox, so a
session that dies with it, or a server that does, loses nothing.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Final
from xml.sax.saxutils import unescape

import structlog

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Direction, Entry, Kind, Message, PageRequest, Relation, Stored, Treatment
from homeserver.domain.sessions import Session
from homeserver.protocol.jid import JID
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.sessions import Sessions

log = structlog.get_logger(__name__)

FLUSH_PAGE: Final = 100
_ADDRESS: Final = re.compile(rb" (from|to)=(?:'([^']*)'|\"([^\"]*)\")")


class Delivery:
    """Gives sessions what is theirs, in the order of the log."""

    def __init__(self, sessions: Sessions, mailboxes: Mailboxes) -> None:
        self._sessions = sessions
        self._mailboxes = mailboxes
        self._handed: dict[int, int] = {}
        self._joined: dict[Session, int] = {}
        self._flushing: dict[Session, list[tuple[Stored, Relation]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_waiting: list[Callable[[Account, Stored], None]] = []
        sessions.on_ended.append(self._ended)

    def received(self, stored: Stored, recipient: Account) -> None:
        """Give a message to the sessions of its recipient, or leave it waiting."""
        message = stored.message
        sessions = self._sessions.of(recipient.jid.bare)
        if not sessions:
            if message.treatment & Treatment.KEEP:
                self._wait(recipient, stored)
            return
        target = None
        if message.to.resource:
            target = self._sessions.find(message.to)
            if target is None and message.kind not in (Kind.CHAT, Kind.NORMAL):
                if message.treatment & Treatment.KEEP:
                    self._wait(recipient, stored)
                return
        if target is not None:
            self._give(target, stored, Relation.DIRECT)
            handed = True
            if message.treatment & Treatment.COPY:
                for session in sessions:
                    if session is not target and session.wants_copies and session.priority is not None:
                        self._give(session, stored, Relation.RECEIVED_ELSEWHERE)
        else:
            handed = self._give_available(sessions, stored)
        if stored.id and message.treatment & Treatment.KEEP:
            if handed:
                self._handed[recipient.id] = stored.id
            else:
                self._wait(recipient, stored)

    def sent(self, stored: Stored, sender: Account, source: JID) -> None:
        """Give the sender's other sessions their copy (XEP-0280 s8)."""
        if not stored.message.treatment & Treatment.COPY:
            return
        sessions = self._sessions.of(sender.jid.bare)
        if len(sessions) < 2 and not (sessions and sessions[0].jid != source):
            return
        for session in sessions:
            if session.wants_copies and session.jid != source and session.priority is not None:
                self._give(session, stored, Relation.SENT_ELSEWHERE)

    def arrived(self, session: Session) -> None:
        """A session became available with a priority that takes messages: give it what waits.

        What it already read from the archive on this connection is not given twice (XEP-0160, XEP-0313). Live messages
        queue behind until it has caught up.
        """
        if session in self._flushing or session in self._joined:
            return
        handed = self._handed.get(session.account.id, 0)
        top = self._begin(session)
        self._handed[session.account.id] = max(handed, top)
        self._run(session, self._flush(session, handed, top, session.already_read()))

    def returned(self, session: Session, position: int, resource: str) -> None:
        """A session of an earlier process came back: give it everything of its mailbox behind ``position``.

        Copies of other sessions' messages are among it, as they would have been live.
        """
        top = self._begin(session)
        if takes(session):
            self._handed[session.account.id] = max(self._handed.get(session.account.id, 0), top)
        self._run(session, self._catch_up(session, position, top, resource))

    def settled(self, session: Session, acknowledged: int, lazy: bool = False) -> None:
        """A session acknowledged every message up to an id; the mailbox may forget that they wait.

        What another session of the account still holds unacknowledged keeps waiting.
        """
        for other in self._sessions.of(session.jid.bare):
            if other is not session:
                held = other.oldest_unacknowledged()
                if held is not None and held <= acknowledged:
                    acknowledged = held - 1
        self._mailboxes.settle(session.account, acknowledged, lazy)

    def redeliver(self, session: Session, unacknowledged: list[Stored]) -> None:
        """Pass on what a session took and never acknowledged, now that it is gone for good (XEP-0198 s5)."""
        others = [other for other in self._sessions.of(session.jid.bare) if other is not session and takes(other)]
        if not others:
            return
        for stored in unacknowledged:
            for other in others:
                if stored.id <= self._joined.get(other, 0) or not self._had(other, stored.message):
                    self._give(other, stored, Relation.DIRECT, late=True)

    @staticmethod
    def _had(session: Session, message: Message) -> bool:
        return message.to.is_bare or (session.wants_copies and bool(message.treatment & Treatment.COPY))

    def _give_available(self, sessions: Sequence[Session], stored: Stored) -> bool:
        handed = False
        copies = stored.message.treatment & Treatment.COPY
        for session in sessions:
            priority = session.priority
            if priority is None:
                continue
            if priority >= 0:
                self._give(session, stored, Relation.DIRECT)
                handed = True
            elif copies and session.wants_copies:
                self._give(session, stored, Relation.RECEIVED_ELSEWHERE)
        return handed

    def _give(self, session: Session, stored: Stored, relation: Relation, late: bool = False) -> None:
        if self._flushing:
            held = self._flushing.get(session)
            if held is not None:
                held.append((stored, relation))
                return
        session.deliver(stored, relation, late)

    def _wait(self, account: Account, stored: Stored) -> None:
        for listener in self.on_waiting:
            listener(account, stored)

    def _begin(self, session: Session) -> int:
        top = self._mailboxes.newest()
        self._joined[session] = top
        self._flushing[session] = []
        return top

    def _run(self, session: Session, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(session, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, session: Session, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("what waits could not be read", account=session.jid.bare)
            session.disconnect("internal-server-error", "The mailbox cannot be read now")
        finally:
            for stored, relation in self._flushing.pop(session, []):
                session.deliver(stored, relation)

    async def _flush(self, session: Session, handed: int, top: int, seen: frozenset[int]) -> None:
        after = max(handed, await self._mailboxes.settled(session.account))
        leads = True
        while session in self._flushing:
            waiting = await self._mailboxes.pending(session.account, FLUSH_PAGE, after)
            for entry in waiting:
                if entry.id > top or session not in self._flushing:
                    return
                if entry.id not in seen:
                    leads = False
                    session.deliver(restored(entry, session.jid), Relation.DIRECT, True)
                elif leads:
                    self.settled(session, entry.id, lazy=True)
            if len(waiting) < FLUSH_PAGE:
                return
            after = waiting[-1].id

    async def _catch_up(self, session: Session, position: int, top: int, resource: str) -> None:
        while session in self._flushing:
            page = await self._mailboxes.page(session.account, PageRequest(limit=FLUSH_PAGE, after=position))
            for entry in page.entries:
                if entry.id > top or session not in self._flushing:
                    return
                relation = relation_to(entry, session, resource)
                if relation is not None:
                    session.deliver(restored(entry, session.jid), relation, True)
            if page.complete or not page.entries:
                return
            position = page.entries[-1].id

    def _ended(self, session: Session) -> None:
        self._flushing.pop(session, None)
        self._joined.pop(session, None)
        if not any(takes(other) for other in self._sessions.of(session.jid.bare)):
            self._handed.pop(session.account.id, None)


def takes(session: Session) -> bool:
    """Whether a session is given messages to the bare JID (RFC 6121 s8.5.2.1.1)."""
    return session.priority is not None and session.priority >= 0


def restored(entry: Entry, owner: JID) -> Stored:
    """An archive entry as a message that can be delivered again; what waited counts as sent to the bare JID."""
    peer = JID.parse(entry.peer)
    sender, to = (owner.to_bare(), peer) if entry.direction is Direction.OUTGOING else (peer, owner.to_bare())
    treatment = Treatment.ARCHIVE | Treatment.KEEP | Treatment.COPY
    message = Message(sender, to, entry.kind, treatment, entry.stanza_id, None, entry.payload)
    return Stored(entry.id, entry.at, message)


def relation_to(entry: Entry, session: Session, resource: str) -> Relation | None:
    """How a session would have been given an entry, or None if not at all."""
    addresses = {}
    for name, single, double in _ADDRESS.findall(entry.payload[: entry.payload.find(b">")]):
        addresses[name] = unescape((single or double).decode(), {"&apos;": "'", "&quot;": '"'})
    own = f"{session.jid.bare}/{resource}"
    if entry.direction is Direction.OUTGOING:
        wanted = session.wants_copies and addresses.get(b"from") != own
        return Relation.SENT_ELSEWHERE if wanted else None
    to = addresses.get(b"to", "")
    if to == own or (to == session.jid.bare and takes(session)):
        return Relation.DIRECT
    return Relation.RECEIVED_ELSEWHERE if session.wants_copies else None
