"""Announcements: a message to all accounts, or to those that are online.

One to all accounts is written down first and sent in slices; each slice and how far it came are one commit, so that
neither a crash nor a restart leaves anybody out or tells anybody twice.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from homeserver.domain.errors import NotFound, ResourceConstraint
from homeserver.domain.notices import Announcement, fitting
from homeserver.services.bulletins import Bulletin
from homeserver.storage import accounts as account_storage
from homeserver.storage import announcements as storage

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account, Role
    from homeserver.services.clock import Clock
    from homeserver.services.messaging import Messaging
    from homeserver.services.sessions import Sessions
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

SLICE: Final = 100
"""Accounts of one commit: few enough that what is being sent does not notice."""
LISTED: Final = 100
KEPT_SECONDS: Final = 90 * 86_400.0
"""How long a finished one is listed."""
SUBJECT: Final = "Announcement"


class Announcements:
    """A part of the server with `start` and `stop`. Call `resume` now and then: it takes up what a full disk interrupted."""

    def __init__(self, database: Database, messaging: Messaging, sessions: Sessions, clock: Clock) -> None:
        self._database = database
        self._messaging = messaging
        self._sessions = sessions
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._is_wanted = False

    async def create(
        self, author: Account, text: str, domain: str | None = None, role: Role | None = None
    ) -> Announcement:
        """Have a text sent to all accounts there are now, or to those of one domain and role.

        It is durable when this returns, and sent in the background. Raises `NotAcceptable`.
        """
        text = fitting(text)
        last = await self._database.read(account_storage.newest)
        made = Announcement(0, author.id, domain, role, text, self._clock.now(), last)
        number = await self._database.write(storage.add, made)
        log.info("announcement made", number=number, author=author.jid.bare, domain=domain, role=role)
        self._wake()
        return await self.find(number)

    async def find(self, number: int) -> Announcement:
        """One of them. Raises `NotFound`."""
        found = await self._database.read(storage.find, number)
        if found is None:
            raise NotFound("there is no such announcement")
        return found

    async def listing(self, limit: int = LISTED) -> list[Announcement]:
        """The newest, newest first."""
        return await self._database.read(storage.listing, limit)

    async def tell_online(self, text: str, domain: str | None = None) -> int:
        """Show a text to accounts that are available now, and to nobody later (XEP-0133 s4.23); returns to how many.

        Raises `NotAcceptable`.
        """
        bulletin = Bulletin(f"announce-{secrets.token_hex(4)}", SUBJECT, fitting(text), stored=False)
        shown: dict[str, Account] = {}
        for session in self._sessions.everyone():
            account = session.account
            if session.priority is not None and (domain is None or account.jid.domain == domain):
                shown[account.jid.bare] = account
        for count, account in enumerate(shown.values(), start=1):
            if count % SLICE == 0:
                await asyncio.sleep(0)  # others have their turn
            self._messaging.announce(account, bulletin.to(account.jid), _unheard)
        return len(shown)

    async def resume(self) -> None:
        """Go on with what is not finished, and forget what was finished long ago."""
        await self._database.write(storage.purge_before, self._clock.now() - KEPT_SECONDS)
        self._wake()

    async def settle(self) -> None:
        """Wait until there is nothing to do."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def start(self) -> None:
        """Take up what the process before this one left."""
        await self.resume()

    async def stop(self, deadline: float) -> None:
        """Stop; what is left to do is taken up by the next process."""
        self._is_wanted = False
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _wake(self) -> None:
        self._is_wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                while (found := await self._database.read(storage.unfinished)) is not None:
                    await self._send(found)
        except Exception:
            log.exception("announcement interrupted")  # taken up by the next `resume`

    async def _send(self, announcement: Announcement) -> None:
        bulletin = Bulletin(f"announcement-{announcement.id}", SUBJECT, announcement.text)
        reached = announcement.reached
        while reached < announcement.last:
            accounts = await self._database.read(
                account_storage.following, reached, announcement.last, SLICE, announcement.domain, announcement.role
            )
            reached = accounts[-1].id if len(accounts) == SLICE else announcement.last
            await self._send_slice(announcement.id, bulletin, accounts, reached)
        await self._database.write(storage.finish, announcement.id, self._clock.now())
        log.info("announcement sent", number=announcement.id)

    async def _send_slice(self, number: int, bulletin: Bulletin, accounts: list[Account], reached: int) -> None:
        """Messages and progress are queued in one step, so they are one commit. Raises what the commit raised."""
        told = 0
        for account in accounts:
            try:
                self._messaging.announce(account, bulletin.to(account.jid), _unheard)
            except ResourceConstraint:
                continue  # too much waits for it already
            told += 1
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        then = partial(_resolve, durable)
        self._database.commit.also(storage.advance, number, reached, told, then=then)
        await durable


def _unheard(_stored: Any, _error: BaseException | None) -> None:
    """The commit that holds the message answers for it."""


def _resolve(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
