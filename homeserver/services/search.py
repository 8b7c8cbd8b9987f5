"""Finding messages by their words.

Messages are given their words behind the log, a few hundred at a time: often when the server has little to do, seldom
when it is busy, and at once when somebody searches. The message path does nothing for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.search import words_of
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import InvalidEvent, stanza_element
from homeserver.protocol.xml import text_of
from homeserver.storage import search as storage
from homeserver.storage.search import Fresh, Words

if TYPE_CHECKING:
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

STEP: Final = 300
"""Messages of one transaction: about ten milliseconds."""
PAUSE: Final = 5.0
BUSY: Final = 1000
"""So many new messages in one pause, and a round makes one step only."""
MOST_AT_ONCE: Final = 20
"""Steps that a search waits for; what is still missing then is found later."""
_HIDDEN: Final = frozenset(
    (
        f"{{{ns.ENCRYPTION}}}encryption",
        f"{{{ns.OMEMO}}}encrypted",
        f"{{{ns.OMEMO_LEGACY}}}encrypted",
        f"{{{ns.OPENPGP}}}openpgp",
        f"{{{ns.OPENPGP_LEGACY}}}x",
        f"{{{ns.REACTIONS}}}reactions",
        f"{{{ns.RETRACTION}}}retract",
    )
)
"""With one of these the body is no text of the sender's: it tells clients without support that there is something."""


class Search:
    """Keeps the index behind the log. A part of the process: start and stop it."""

    def __init__(self, database: Database, pause: float = PAUSE) -> None:
        self._database = database
        self._pause = pause
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins; the first round comes after the first pause."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, deadline: float) -> None:
        """Ends; what has no words yet gets them after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=deadline)

    async def catch_up(self, steps: int = MOST_AT_ONCE) -> bool:
        """Give words to what is durable, at most so many steps; true when nothing is left."""
        async with self._turn:
            for _ in range(steps):
                through, found, more = await self._database.read(storage.fresh, STEP)
                words = [made for made in map(_words, found) if made is not None]
                await self._database.write(storage.add, through, words)
                if not more:
                    return True
        return False

    async def _run(self) -> None:
        stored = 0
        while True:
            await asyncio.sleep(self._pause)
            now = self._database.commit.stored
            is_busy, stored = now - stored > BUSY, now
            try:
                while True:
                    if await self.catch_up(1) or is_busy:
                        break
            except Exception:
                log.exception("words of messages could not be kept")


def _words(found: Fresh) -> Words | None:
    try:
        message = stanza_element(found.payload)
    except InvalidEvent:
        log.warning("a stored message cannot be read", id=found.id)
        return None
    if any(part.tag in _HIDDEN for part in message):
        return None
    words = words_of(text_of(message, ns.CLIENT, "body") or "")
    return Words(found.id, found.owners, words) if words else None
