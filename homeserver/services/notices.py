"""Notices: what an account is shown when it comes online, once (XEP-0133 s4.24 to s4.28).

The message and the note that it was sent are one commit, so it is shown once also across a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from homeserver.domain.errors import NotFound, ResourceConstraint
from homeserver.domain.notices import Notice, NoticeKind, fitting
from homeserver.services.accounts import Ending, Revocation
from homeserver.services.bulletins import Bulletin
from homeserver.storage import notices as storage

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.sessions import Session
    from homeserver.services.clock import Clock
    from homeserver.services.messaging import Messaging
    from homeserver.services.sessions import Sessions
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

SUBJECTS: Final = {NoticeKind.MOTD: "Message of the day", NoticeKind.WELCOME: "Welcome"}


class Notices:
    """Call `load` once before anything else. `greet` is called with sessions that come online."""

    def __init__(self, database: Database, messaging: Messaging, sessions: Sessions, clock: Clock) -> None:
        self._database = database
        self._messaging = messaging
        self._sessions = sessions
        self._clock = clock
        self._notices: dict[str, dict[NoticeKind, Notice]] = {}
        self._greeted: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read what is shown."""
        for found in await self._database.read(storage.every):
            self._notices.setdefault(found.domain, {})[found.kind] = found

    def find(self, kind: NoticeKind, domain: str) -> Notice | None:
        """The notice of a kind and domain, if there is one."""
        return self._notices.get(domain, {}).get(kind)

    async def set(self, kind: NoticeKind, domain: str, text: str) -> Notice:
        """Show a notice, also to those who saw an earlier one; a message of the day at once to those who are online.

        Raises `NotAcceptable`.
        """
        text, now = fitting(text), self._clock.now()
        before = self.find(kind, domain)
        version = max(self._clock.microseconds(), 0 if before is None else before.version + 1)
        return await self._put(Notice(kind, domain, text, version, now if before is None else before.since))

    async def edit(self, kind: NoticeKind, domain: str, text: str) -> Notice:
        """Correct a notice; who saw it is not shown it again. Raises `NotFound`, `NotAcceptable`."""
        before = self.find(kind, domain)
        if before is None:
            raise NotFound("there is no such notice")
        return await self._put(replace(before, text=fitting(text)))

    async def drop(self, kind: NoticeKind, domain: str) -> None:
        """Show it no more. Raises `NotFound`."""
        if not await self._database.write(storage.drop, kind, domain):
            raise NotFound("there is no such notice")
        self._notices.get(domain, {}).pop(kind, None)
        log.info("notice removed", kind=kind.value, domain=domain)

    def greet(self, session: Session) -> None:
        """A session came online: its account is sent what it was not shown yet."""
        account = session.account
        if self._notices.get(account.jid.domain) and account.id not in self._greeted:
            self._greeted.add(account.id)
            self._start(self._greet(account))

    def revoked(self, revocation: Revocation) -> None:
        """A deleted account leaves nothing behind."""
        if revocation.ending is Ending.DELETED:
            self._database.commit.also(storage.forget, revocation.account.id)

    async def settle(self) -> None:
        """Wait for what `greet` began."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _put(self, made: Notice) -> Notice:
        await self._database.write(storage.put, made)
        self._notices.setdefault(made.domain, {})[made.kind] = made
        log.info("notice set", kind=made.kind.value, domain=made.domain)
        if made.kind is NoticeKind.MOTD:
            for session in self._sessions.everyone():
                if session.priority is not None and session.priority >= 0:
                    self.greet(session)
        return made

    async def _greet(self, account: Account) -> None:
        try:
            await self._send(account, *await self._database.read(storage.known_to, account.id))
        finally:
            self._greeted.discard(account.id)

    async def _send(self, account: Account, created: float, seen: dict[NoticeKind, int]) -> None:
        for kind, notice in sorted(self._notices.get(account.jid.domain, {}).items(), reverse=True):
            if seen.get(kind, 0) >= notice.version or (kind is NoticeKind.WELCOME and created < notice.since):
                continue
            if kind is NoticeKind.WELCOME and kind in seen:
                continue  # newly made once, whatever the text says now
            bulletin = Bulletin(f"{kind.value}-{notice.version}", SUBJECTS[kind], notice.text)
            try:
                self._messaging.announce(account, bulletin.to(account.jid), _unheard)
            except ResourceConstraint:
                continue  # too much waits for it; it is shown the next time
            self._database.commit.also(storage.note, account.id, kind, notice.version)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._database.commit.follow(lambda _error: None if done.done() else done.set_result(None))
        await done

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("notice not sent", error=repr(task.exception()))


def _unheard(_stored: Any, _error: BaseException | None) -> None:
    """The commit that holds the message answers for it."""
