"""How files go: their time is over, their owner deletes them or is deleted, or a crash left a content without a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.accounts import AccountState
from homeserver.services.accounts import Accounts, Ending, Revocation
from homeserver.storage import files as storage

if TYPE_CHECKING:
    from homeserver.services.clock import Clock
    from homeserver.services.contents import Contents
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

DAY: Final = 86_400.0
ROUND: Final = 500
"""Files that one transaction removes."""


class FileDisposal:
    """``is_running`` says whether a content of that id is coming in."""

    def __init__(
        self,
        database: Database,
        contents: Contents,
        accounts: Accounts,
        clock: Clock,
        is_running: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._contents = contents
        self._accounts = accounts
        self._clock = clock
        self._is_running = is_running
        self._looked: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        accounts.when_revoked(self._revoked)

    async def drop(self, ids: Sequence[str]) -> None:
        """Delete files."""
        # The rows first: what nobody can find may be lost, what can be found must be there.
        await self._database.write(storage.drop, ids)
        await self._contents.remove(ids)

    async def purge(self) -> None:
        """Delete what has expired; the first time and once a day also what nothing refers to. To be called now and then."""
        now = self._clock.now()
        while ids := await self._database.read(storage.expired, now, ROUND):
            await self.drop(ids)
        if self._looked is None or now - self._looked > DAY:
            self._looked = now
            await self._purge_owners()
            # The clock of a file system may be a moment behind.
            await self._purge_orphans(now - 1)

    def purge_now(self) -> None:
        """`purge` in the background."""
        self._in_background(self.purge, "files were not looked through")

    async def settle(self) -> None:
        """Wait for what goes on in the background."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _drop_of(self, account: int) -> None:
        while ids := await self._database.read(storage.owned, account, ROUND):
            await self.drop(ids)

    async def _purge_owners(self) -> None:
        after = 0
        while numbers := await self._database.read(storage.owners, after, ROUND):
            for number, account in (await self._accounts.by_ids(numbers)).items():
                if account.state is AccountState.DELETED:
                    await self._drop_of(number)
            after = numbers[-1]

    async def _purge_orphans(self, before: float) -> None:
        removed = 0
        for portion in await self._contents.older(before):
            for start in range(0, len(portion), ROUND):
                # In this order: an upload that ends between the two questions is known by then.
                resting = [one for one in portion[start : start + ROUND] if not self._is_running(one)]
                known = await self._database.read(storage.known, resting)
                lost = [one for one in resting if one not in known]
                await self._contents.remove(lost)
                removed += len(lost)
        if removed:
            log.info("contents without a file removed", count=removed)

    def _revoked(self, revocation: Revocation) -> None:
        if revocation.ending is Ending.DELETED:
            account = revocation.account
            self._in_background(lambda: self._drop_of(account.id), "files of a deleted account stay until tomorrow")

    def _in_background(self, work: Callable[[], Awaitable[None]], failure: str) -> None:
        task = asyncio.get_running_loop().create_task(_logged(work, failure))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _logged(work: Callable[[], Awaitable[None]], failure: str) -> None:
    try:
        await work()
    except Exception:
        log.exception(failure)
