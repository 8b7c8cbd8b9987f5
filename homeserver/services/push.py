"""Push registrations: which app servers an account's devices are woken through (XEP-0357 s5, s6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from homeserver.domain.push import Options, Registration, checked_node, checked_options
from homeserver.services.accounts import Ending, Revocation
from homeserver.storage import push as storage

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from config.feature_settings import PushSettings
    from homeserver.domain.accounts import Account
    from homeserver.protocol.jid import JID
    from homeserver.services.clock import Clock
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)


class AppServers:
    """Call `start` once before anything else. ``accounts`` are the numbers of those that have any registration."""

    def __init__(self, database: Database, settings: PushSettings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._ending: set[asyncio.Task[None]] = set()
        self.accounts: set[int] = set()

    async def start(self) -> None:
        """Load whose messages are looked at."""
        self.accounts.update(await self._database.read(storage.accounts))

    def reload(self, settings: PushSettings) -> None:
        """Take over another bound for what comes from now on."""
        self._settings = settings

    async def enable(
        self,
        account: Account,
        service: JID,
        node: str | None,
        options: Iterable[tuple[str, Iterable[str]]] = (),
        *,
        device: str | None = None,
        client: str | None = None,
    ) -> Registration:
        """Wake through this node from now on; the last options given for it count (XEP-0357 s5).

        ``device`` and ``client`` as in `Registration`. Durable when it returns. Raises `BadRequest`, `NotAcceptable`.
        """
        kept: Options = checked_options(options)
        made = Registration(account.id, service, checked_node(node), kept, device, client)
        await self._database.write(storage.put, made, self._clock.now(), self._settings.registrations)
        self.accounts.add(account.id)
        return made

    async def disable(self, account: Account, service: JID, node: str | None = None) -> None:
        """Write there no more; without ``node`` to none of the service (XEP-0357 s6)."""
        if not await self._database.write(storage.drop, account.id, str(service), node):
            self.accounts.discard(account.id)

    async def of(self, account: Account) -> list[Registration]:
        """What an account enabled, the oldest first."""
        return await self._database.read(storage.of, account.id)

    async def worked(self, found: Registration) -> None:
        """The app server took a notification."""
        if found.failures:
            await self._database.write(storage.note_failures, found, 0)

    async def failed(self, account: Account, found: Registration, *, is_final: bool) -> None:
        """The app server did not take a notification; after a final refusal, or too many, it is written to no more."""
        failures = found.failures + 1
        if is_final or failures >= self._settings.failures:
            log.info("push disabled", account=account.jid.bare, service=str(found.service), failures=failures)
            await self.disable(account, found.service, found.node)
        else:
            await self._database.write(storage.note_failures, found, failures)

    # --- what ends by itself ------------------------------------------------------------------------------------------

    def revoked(self, revocation: Revocation) -> None:
        """Listens to the accounts service: an account that was disabled or deleted is not written about."""
        if revocation.ending is not Ending.PASSWORD:
            self.accounts.discard(revocation.account.id)
            self._begin(self._clear(revocation.account.id))

    def dropped(self, devices: tuple[str, ...]) -> None:
        """Listens to the tokens: a device of the JSON API that was logged out is woken no more."""
        self._begin(self._drop_devices(devices))

    def client_dropped(self, account: Account, client: str) -> None:
        """Listens to the tokens: the same for an XMPP client, by the id of its user agent."""
        self._begin(self._drop_client(account.id, client))

    async def settle(self) -> None:
        """Wait for what `revoked` and `dropped` began."""
        while self._ending:
            await asyncio.wait(tuple(self._ending))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._end(work))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("push registrations were not removed")

    async def _clear(self, account: int) -> None:
        await self._database.write(storage.clear, account)

    async def _drop_client(self, account: int, client: str) -> None:
        if not await self._database.write(storage.drop_client, account, client):
            self.accounts.discard(account)

    async def _drop_devices(self, devices: tuple[str, ...]) -> None:
        self.accounts.difference_update(await self._database.write(storage.drop_devices, devices))
