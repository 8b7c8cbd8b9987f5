"""Whether the server can do its work, as a load balancer or an operator asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.storage import health as storage
from homeserver.storage.faults import is_full

if TYPE_CHECKING:
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

PATIENCE: Final = 5.0
"""Seconds that a commit or a read may take before the store counts as gone."""


class Health:
    """Judges the store by what the message path last met with. ``store_bytes`` is its size when it was last measured."""

    def __init__(self, database: Database, patience: float = PATIENCE) -> None:
        self._database = database
        self._patience = patience
        self.store_bytes = 0

    async def why_not_ready(self) -> str | None:
        """Why messages cannot be stored or read now, or None. The text is for everybody to see.

        After a failure every question also writes a little, so that the answer changes when the store works again and
        nobody sends anything.
        """
        commit = self._database.commit
        if commit.failure is not None:
            reason = ", there is no room left" if is_full(commit.failure) else ""
            commit.also(storage.probe)
            return f"the store cannot be written{reason}"
        if commit.began is not None and asyncio.get_running_loop().time() - commit.began > self._patience:
            return "the store does not finish writing"
        try:
            async with asyncio.timeout(self._patience):
                await self._database.read(storage.answer)
        except Exception as error:  # noqa: BLE001 - whatever a store may raise, it is not ready
            log.warning("the store cannot be read", error=str(error).partition("\n")[0])
            return "the store cannot be read"
        return None

    async def measure(self) -> None:
        """Ask for the size of the store; the old number stays when it does not answer."""
        try:
            async with asyncio.timeout(self._patience):
                self.store_bytes = await self._database.read(storage.size)
        except Exception as error:  # noqa: BLE001 - the other numbers are worth having
            log.warning("the store was not measured", error=str(error).partition("\n")[0])
