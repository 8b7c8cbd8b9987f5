"""What federation does once a day: forget ids that cannot come again, drop the private halves of ended keys."""

import asyncio
from typing import Final

import structlog

from federation.http.own_keys import OwnKeys
from federation.inbound import Inbound

log = structlog.get_logger(__name__)

EVERY: Final = 86_400.0


class Housekeeping:
    """Runs at the start and then daily."""

    def __init__(self, inbound: Inbound, own: OwnKeys) -> None:
        self._inbound = inbound
        self._own = own
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def once(self) -> None:
        """One round."""
        self._own.retire()
        await self._inbound.forget()

    async def _run(self) -> None:
        while True:
            try:
                await self.once()
            except Exception:
                log.exception("housekeeping of federation failed")
            await asyncio.sleep(EVERY)
