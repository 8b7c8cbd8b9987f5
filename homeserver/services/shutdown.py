"""An orderly stop that staff asked for (XEP-0133 s4.31): announced, then after a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.accounts import Role
from homeserver.domain.errors import Conflict, Forbidden, NotAcceptable, NotFound

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.services.announcements import Announcements

log = structlog.get_logger(__name__)

LONGEST: Final = 86_400.0


class Shutdown:
    """``stop`` is set by the composition root to what ends the process as SIGTERM does."""

    def __init__(self, announcements: Announcements) -> None:
        self._announcements = announcements
        self._timer: asyncio.TimerHandle | None = None
        self.stop: Callable[[], None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a stop was asked for."""
        return self._timer is not None

    async def begin(self, asker: Account, delay: float, text: str = "") -> None:
        """Stop after ``delay`` seconds; a ``text`` is shown at once to all who are online.

        Raises `Forbidden` (only admins), `NotAcceptable` (time, text), `Conflict` where a stop is under way.
        """
        self._demand(asker)
        if not 0 <= delay <= LONGEST:
            raise NotAcceptable(f"the time is between 0 and {int(LONGEST)} seconds")
        if self._timer is not None:
            raise Conflict("the server stops already")
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._stop)
        log.info("shutdown asked for", by=asker.jid.bare, delay=delay)
        if text.strip():
            try:
                await self._announcements.tell_online(text)
            except NotAcceptable:
                self.close()
                raise

    def cancel(self, asker: Account) -> None:
        """Do not stop. Raises `Forbidden`, `NotFound` where no stop is under way."""
        self._demand(asker)
        if self._timer is None:
            raise NotFound("no stop was asked for")
        self.close()
        log.info("shutdown called off", by=asker.jid.bare)

    def close(self) -> None:
        """Forget the stop that is under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _demand(self, asker: Account) -> None:
        if asker.role is not Role.ADMIN:
            raise Forbidden("only admins may do this")

    def _stop(self) -> None:
        if self.stop is not None:
            self.stop()
