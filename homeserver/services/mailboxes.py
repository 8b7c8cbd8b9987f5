"""Mailboxes of the accounts: append, page, what waits for delivery, and the recognition of resent messages."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import RETRACTION, Conversation, Entry, Message, Page, PageRequest, Stored, Then
from homeserver.protocol.retraction import target, tombstone
from homeserver.services.clock import Clock
from homeserver.storage import inbox
from homeserver.storage import mailbox_removal as removal
from homeserver.storage import mailboxes as sql
from homeserver.storage.database import Database
from homeserver.storage.log_index import LogRow
from homeserver.storage.places import Side

Appended = Callable[[Stored | None, BaseException | None], None]
"""Called on the loop after the commit: the message with its place, or the error and nothing was stored."""

RESEND_SECONDS: Final = 3600.0
MOST_COUNTED: Final = sql.MOST_COUNTED
_MOST_RESENDS: Final = 100_000

Resend = tuple[str, str, str, int]


def digest(payload: bytes) -> int:
    """What tells a resent payload from another: everything behind the first ``>``, so without the start tag, where
    the resource may differ. (A ``>`` inside an attribute only makes the part longer.)

    Keyed anew by every process and never kept; who could make two messages equal is their one sender.
    """
    return hash(payload[payload.find(b">") + 1 :])


class Mailboxes:
    """One per server. Open with `load` before the first message."""

    def __init__(self, database: Database, ids: IdSource, clock: Clock) -> None:
        self._database = database
        self._commit = database.commit
        self._ids = ids
        self._clock = clock
        self._resends: dict[Resend, int] = {}
        self._ages: deque[tuple[float, int, Resend]] = deque()
        self.on_read: list[Callable[[Account], None]] = []
        """Told of an account that reads its archive."""

    async def load(self) -> None:
        """Rebuild the set of recent messages from the log (threats, design rule 3)."""
        now = self._clock.now()
        since = int((now - RESEND_SECONDS) * 1e6)
        for id_, sender, peer, origin, payload in await self._database.read(sql.recent_origins, since, _MOST_RESENDS):
            self._remember((sender, peer, origin, digest(payload)), id_, id_ / 1e6)

    def append(
        self,
        message: Message,
        sender: Account | None,
        recipient: Account | None,
        then: Appended | None = None,
        sent: Message | None = None,
    ) -> Stored:
        """Queue a message for the log and return it with its id; ``then`` comes when it is durable.

        ``sender`` and ``recipient`` are the local accounts that get an entry, None for a side without. A message
        without ARCHIVE and KEEP is the caller's to send on without this. ``sent`` is what a local sender sent whose mailbox
        is not to hold it: a resend is recognised by that. Where several nodes share a store the id may
        be raised until the commit, so nothing may leave before ``then``.
        """
        now = self._clock.microseconds()
        stored = Stored(self._ids.next(), now, message)
        remote = None
        if sender is None:
            remote = message.sender.bare
        elif recipient is None:
            remote = message.to.bare
        row = LogRow(
            stored.id,
            now,
            sender.id if sender is not None else None,
            recipient.id if recipient is not None else None,
            remote,
            # Exact ints: an enum member costs as much as the rest of the row, in arithmetic and in the driver.
            int(message.kind),
            int(message.treatment),
            message.stanza_id,
            message.origin_id,
            message.payload,
        )
        key: Resend | None = None
        if sender is not None and message.origin_id is not None:
            key = (message.sender.bare, message.to.bare, message.origin_id, digest(message.payload))
            self._remember(key, stored.id, now / 1e6)
        elif sent is not None:
            key = self._note(sent, stored)
        self._commit.append(row, partial(self._committed, stored, key, then))
        if message.treatment & RETRACTION:
            self._retract(stored, sender, recipient)
        return stored

    def pass_by(self, message: Message, then: Appended, sent: Message | None = None) -> Stored:
        """Give a message that is not stored its turn: ``then`` comes after everything queued before it is durable.
        ``sent`` as for `append`."""
        stored = Stored(0, self._clock.microseconds(), message)
        key = None if sent is None else self._note(sent, stored)
        self._commit.follow(partial(self._committed, stored, key, then))
        return stored

    def resent(self, message: Message, then: Appended) -> bool:
        """Recognise a local client's resend of a message it sent within the last hour (same origin-id and content).

        True: it is not to be stored again, and ``then`` comes with the first one's place when that is durable.
        """
        if message.origin_id is None:
            return False
        key = (message.sender.bare, message.to.bare, message.origin_id, digest(message.payload))
        known = self.seen(*key)
        if known is None:
            return False

        def durable(error: BaseException | None) -> None:
            # Asked again: the first one's id may have been raised by its commit.
            place = self._resends.get(key, known)
            then(None if error is not None else Stored(place, place, message), error)

        self._commit.follow(durable)
        return True

    def newest(self) -> int:
        """The highest id given to any message of this server so far."""
        return self._commit.last_id

    async def durable(self) -> None:
        """Returns when everything queued so far is durable, and those who wait for that were told."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commit.follow(lambda _error: None if done.done() else done.set_result(None))
        await done

    def follow(self, then: Then) -> None:
        """Call ``then`` when everything queued so far is durable; at once if nothing is pending."""
        self._commit.follow(then)

    def seen(self, sender_bare: str, to_bare: str, origin_id: str, payload_digest: int) -> int | None:
        """The id of the same message sent within the last hour, else None. ``payload_digest`` is `digest` of it.

        It may still be on its way to the store: acknowledge the resend from `GroupCommit.follow`.
        """
        self._forget_old(self._clock.now())
        return self._resends.get((sender_bare, to_bare, origin_id, payload_digest))

    async def page(self, account: Account, request: PageRequest) -> Page:
        """A slice of the archive; everything whose ``then`` has been called is in it."""
        for listener in self.on_read:
            listener(account)
        return await self._database.read(sql.page, account.id, request, self._commit.view(account.id))

    async def behind(self, account: Account, position: int, limit: int) -> Page:
        """All entries above ``position``, archived or waiting, oldest first."""
        return await self._database.read(sql.behind, account.id, position, limit, self._commit.view(account.id))

    async def has_written(self, account: Account, peer: str) -> bool:
        """Whether the account's archive holds a message that it sent to ``peer`` (bare JID)."""
        return await self._database.read(sql.has_written, account.id, peer, self._commit.view(account.id))

    async def conversations(self, account: Account, before: int | None, limit: int) -> list[Conversation]:
        """What the account has with each peer, newest first, those below the id ``before``."""
        view = self._commit.view(account.id)
        return await self._database.read(inbox.conversations, account.id, before, limit, view)

    async def pending(self, account: Account, limit: int, after: int = 0) -> list[Entry]:
        """The oldest entries above ``after`` that wait for delivery.

        When none waits the settled position follows the mailbox, so that sent messages are not searched again.
        """
        view = self._commit.view(account.id)
        found, clear = await self._database.read(sql.pending_or_newest, account.id, after, limit, view)
        if clear > max(view.settling, after):
            self._commit.settle(account.id, clear, lazy=True)
        return found

    async def pending_unarchived(self, account: Account, limit: int, after: int = 0) -> list[Entry]:
        """Those of `pending` that the archive does not show."""
        return await self._database.read(sql.pending, account.id, after, limit, self._commit.view(account.id), True)

    async def find(self, account: Account, id_: int) -> Entry | None:
        """One entry of the archive."""
        return await self._database.read(sql.entry_by_id, account.id, id_)

    async def metadata(self, account: Account) -> tuple[Entry | None, Entry | None]:
        """The oldest and the newest entry of the archive."""
        return await self._database.read(sql.first_and_last, account.id, self._commit.view(account.id))

    async def count(self, account: Account, request: PageRequest) -> int:
        """How many entries a slice of the archive has, without its limit; no more than `MOST_COUNTED` are counted."""
        return await self._database.read(sql.count, account.id, request, self._commit.view(account.id))

    async def hide(self, account: Account, id_: int) -> bool:
        """Take a message out of the account's archive, and of no other; false where it has none under that id."""
        await self.durable()
        return await self._database.write(removal.hide, account.id, id_)

    async def settled(self, account: Account) -> int:
        """The id up to which nothing waits for delivery, positions on their way to the store included."""
        # Looked at first: what is committed while the read runs is in neither otherwise.
        settling = self._commit.settling(account.id)
        return max(await self._database.read(sql.settled, account.id), settling)

    def settle(self, account: Account, id_: int, lazy: bool = False) -> None:
        """Note that nothing up to ``id_`` waits for delivery; a lazy note may be a second late in the store."""
        self._commit.settle(account.id, id_, lazy)

    async def purge_before(self, before: int, limit: int = 1000) -> int:
        """Remove up to ``limit`` messages older than the id ``before`` and not waiting; return how many went."""
        return await self._database.write(removal.purge_before, before, limit)

    async def purge(self, account: Account) -> None:
        """Remove everything the account holds."""
        await self._database.write(removal.purge_owner, account.id)

    def _retract(self, stored: Stored, sender: Account | None, recipient: Account | None) -> None:
        """Leave a tombstone for what a message takes back, in its commit (XEP-0424 s4): of its sender's own only (s5)."""
        message = stored.message
        wanted = target(message.payload)
        if wanted is None:
            return
        author = Side(sender.id if sender is not None else None, message.sender.bare)
        other = Side(recipient.id if recipient is not None else None, message.to.bare)
        replace = partial(tombstone, retraction_id=message.stanza_id or str(stored.id), at=stored.at)
        self._commit.also(sql.retract, author, other, wanted, replace)

    def _committed(
        self, stored: Stored, key: Resend | None, then: Appended | None, error: BaseException | None, /
    ) -> None:
        if error is not None:
            if key is not None and self._resends.get(key) == stored.id:
                del self._resends[key]
            if then is not None:
                then(None, error)
            return
        raised = self._commit.raised
        if raised and stored.id in raised:
            stored.id = raised[stored.id]
            if key is not None:
                self._remember(key, stored.id, stored.at / 1e6)
        if then is not None:
            then(stored, None)

    def _note(self, sent: Message, stored: Stored) -> Resend | None:
        if sent.origin_id is None:
            return None
        key = (sent.sender.bare, sent.to.bare, sent.origin_id, digest(sent.payload))
        self._remember(key, stored.id, stored.at / 1e6)
        return key

    def _remember(self, key: Resend, id_: int, at: float) -> None:
        if len(self._ages) >= _MOST_RESENDS:
            self._forget_oldest()
        self._resends[key] = id_
        self._ages.append((at, id_, key))

    def _forget_old(self, now: float) -> None:
        limit = now - RESEND_SECONDS
        while self._ages and self._ages[0][0] < limit:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, id_, key = self._ages.popleft()
        if self._resends.get(key) == id_:
            del self._resends[key]
