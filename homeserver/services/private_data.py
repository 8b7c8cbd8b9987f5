"""What an account keeps on the server for itself alone: documents by name, within a quota."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from homeserver.domain.errors import ResourceConstraint
from homeserver.services.accounts import Ending, Revocation
from homeserver.storage import private_data as storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from homeserver.domain.accounts import Account
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)


class PrivateData:
    """Documents of accounts. ``most`` bytes are all of one account, names included."""

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most
        self._leaving: set[asyncio.Task[None]] = set()

    async def find(self, account: Account, name: str) -> bytes | None:
        """One document."""
        return await self._database.read(storage.of, account.id, name)

    async def put(self, account: Account, documents: Mapping[str, bytes], *, bounded: bool = True) -> None:
        """Replace documents, all or none; an empty one is removed. Durable when it returns.

        Raises `ResourceConstraint` where all would be too much. What is not ``bounded`` is a copy that this server makes.
        """
        try:
            await self._database.write(storage.put, account.id, documents, self._most if bounded else None)
        except storage.Full as error:
            raise ResourceConstraint(f"An account keeps at most {self._most} bytes; nothing was changed") from error

    def revoked(self, revocation: Revocation) -> None:
        """Listens to the accounts service: what a deleted account had is removed in the background."""
        if revocation.ending is Ending.DELETED:
            task = asyncio.get_running_loop().create_task(self._clear(revocation.account))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def settle(self) -> None:
        """Wait for what `revoked` began."""
        while self._leaving:
            await asyncio.wait(tuple(self._leaving))

    async def _clear(self, account: Account) -> None:
        try:
            await self._database.write(storage.clear, account.id)
        except Exception:
            log.exception("private data of a deleted account was not removed", account=account.jid.bare)
