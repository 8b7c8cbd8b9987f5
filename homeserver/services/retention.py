"""How much of an archive is shown at once, and how long it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from config.settings import ArchiveSettings
    from homeserver.services.clock import Clock
    from homeserver.services.mailboxes import Mailboxes

log = structlog.get_logger(__name__)

ROUND: Final = 1000
"""Messages that one transaction removes: short enough that what is being sent does not notice."""


class Pages:
    """``default`` messages on a page when the client does not say, at most ``most``."""

    def __init__(self, settings: ArchiveSettings) -> None:
        self.reload(settings)

    def reload(self, settings: ArchiveSettings) -> None:
        """Take over other numbers."""
        self.most = settings.page_max
        self.default = min(settings.page_default, settings.page_max)

    def size(self, wanted: int | None) -> int:
        """The size of a page for a client that wishes ``wanted`` messages, or None."""
        return self.default if wanted is None else min(wanted, self.most)


class Retention:
    """Deletes old messages. Those that still wait for a recipient or for another server stay."""

    def __init__(self, mailboxes: Mailboxes, clock: Clock, settings: ArchiveSettings) -> None:
        self._mailboxes = mailboxes
        self._clock = clock
        self._seconds = settings.retention

    def reload(self, settings: ArchiveSettings) -> None:
        """Take over another time."""
        self._seconds = settings.retention

    async def purge(self) -> int:
        """Delete what is older than the time; returns how many messages. With 0 nothing is too old."""
        if not self._seconds:
            return 0
        # An id is never below the time of its message, so nothing goes too early.
        before = int((self._clock.now() - self._seconds) * 1_000_000)
        total = 0
        while count := await self._mailboxes.purge_before(before, ROUND):
            total += count
        if total:
            log.info("old messages deleted", count=total)
        return total
