"""Conversations with their unread messages, and the position up to which an account has read each of them.

A position moves when a device of the account says that it displayed a message (XEP-0333) or when it is set (JSON,
XEP-0490); it never goes back. What the account sent itself counts as read with all before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.messages import DISPLAYED, Conversation, Stored
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import stanza_element
from homeserver.services.accounts import Ending, Revocation
from homeserver.storage import inbox as storage

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.services.mailboxes import Mailboxes
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

PAUSE: Final = 0.5
"""Seconds that markers are gathered for one transaction."""
_MARKERS: Final = (f"{{{ns.CHAT_MARKERS}}}displayed", f"{{{ns.CHAT_MARKERS}}}acknowledged")

Advanced = Callable[["Account", str, int], None]
"""Told that an account has read what it has with a bare JID up to an id of its archive."""


class Inbox:
    """Read positions. ``on_advanced`` is told of each that moved, after it is stored."""

    def __init__(self, database: Database, mailboxes: Mailboxes) -> None:
        self._database = database
        self._mailboxes = mailboxes
        self._marks: dict[tuple[str, str], tuple[Account, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self.on_advanced: list[Advanced] = []

    def observe(self, stored: Stored, sender: Account | None, _recipient: Account | None) -> None:
        """Listens to `Messaging.on_stored`: takes the markers of local senders."""
        if sender is None or not stored.message.treatment & DISPLAYED:
            return
        message = stanza_element(stored.message.payload)
        named = [part.get("id", "") for part in message if part.tag in _MARKERS]
        if named and named[0]:
            self._marks[sender.jid.bare, stored.message.to.bare] = (sender, named[0])
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(PAUSE, self._start)

    async def conversations(self, account: Account, before: int | None, limit: int) -> list[Conversation]:
        """The account's conversations, newest first, those below the id ``before``."""
        await self.flush()
        return await self._mailboxes.conversations(account, before, limit)

    async def read(self, account: Account, peer: str, id_: int) -> bool:
        """The account has read everything of a conversation up to an id of its archive; false when it had before."""
        await self.flush()
        moved = await self._database.write(storage.advance, account.id, peer, id_)
        if moved:
            self._tell(account, peer, id_)
        return moved

    async def position(self, account: Account, peer: str) -> int:
        """Up to where the account has read what it has with a peer, 0 at first."""
        await self.flush()
        return await self._database.read(storage.position, account.id, peer)

    async def flush(self) -> None:
        """Store what markers said so far."""
        async with self._turn:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._marks:
                return
            marks, self._marks = self._marks, {}
            said = [(account.id, bare, peer, named) for (bare, peer), (account, named) in marks.items()]
            try:
                moved = await self._database.write(storage.displayed, said)
            except BaseException:
                self._marks = {**marks, **self._marks}
                raise
        for bare, peer, id_ in moved:
            self._tell(marks[bare, peer][0], peer, id_)

    async def close(self) -> None:
        """Store what is left, at the end of the process."""
        await self.flush()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def revoked(self, revocation: Revocation) -> None:
        """Listens to the accounts service: a deleted account has read nothing."""
        if revocation.ending is Ending.DELETED:
            self._database.commit.also(storage.forget, revocation.account.id)

    def _start(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._flush())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        try:
            await self.flush()
        except Exception:
            log.exception("read positions could not be stored")

    def _tell(self, account: Account, peer: str, id_: int) -> None:
        for listener in self.on_advanced:
            listener(account, peer, id_)
