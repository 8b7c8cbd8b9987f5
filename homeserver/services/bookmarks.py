"""Bookmarks of rooms, kept in step in the three places where clients have them (XEP-0402 s5.3, XEP-0411, XEP-0048).

There is an item per room in one node, a list in another, and the same list in private storage. That last one is written
when both nodes agree, so it is what the next change is compared with: whatever was interrupted is made up for by the next
look, and nothing that the server itself wrote looks like a change.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from homeserver.domain.errors import DomainError
from homeserver.domain.pubsub import EventKind, NewItem, NodeConfigChange, NodeEvent
from homeserver.protocol import bookmarks as shapes
from homeserver.protocol import namespaces as ns
from homeserver.protocol.bookmarks import Bookmark, BookmarkList
from homeserver.protocol.xml import Element, parse_own, serialise

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.sessions import Session
    from homeserver.protocol.jid import JID
    from homeserver.services.accounts import Accounts
    from homeserver.services.private_data import PrivateData
    from homeserver.services.pubsub.service import PubSub

log = structlog.get_logger(__name__)

DOCUMENT: Final = f"{{{ns.BOOKMARKS_LEGACY}}}storage"
"""The name of the list in private storage."""
_NODES: Final = frozenset((ns.BOOKMARKS, ns.BOOKMARKS_LEGACY))
_CHANGES: Final = (EventKind.PUBLISH, EventKind.RETRACT, EventKind.PURGE, EventKind.DELETE)
_REMEMBERED: Final = 100_000


class Bookmarks:
    """Listens to publish-subscribe, and answers for the list in private storage."""

    def __init__(self, pubsub: PubSub, private: PrivateData, accounts: Accounts) -> None:
        self._pubsub = pubsub
        self._private = private
        self._accounts = accounts
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changed: set[str] = set()
        self._agreed: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        pubsub.on_event.append(self._told)

    async def stored(self, account: Account) -> Element:
        """The list, as it is in private storage (XEP-0048 s2)."""
        return shapes.write_list(await self._agree(account))

    async def replace(self, account: Account, storage: Element) -> None:
        """A client wrote the list to private storage (XEP-0411 s3). Raises what publishing refuses."""
        current = await self._agree(account)
        if shapes.read_list(storage) != current:
            item = NewItem("current", serialise(storage, "").encode())
            await self._pubsub.publish(account.jid, ns.BOOKMARKS_LEGACY, account.jid, [item])
        await self._agree(account)

    def shown(self, session: Session, _is_first: bool) -> None:
        """A client came: what was interrupted before the server stopped is made up for."""
        if session.jid.bare not in self._agreed:
            self._look(session.account.jid)

    async def settle(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    # --- following --------------------------------------------------------------------------------------------------

    def _told(self, event: NodeEvent) -> None:
        if event.node in _NODES and event.host.local and event.kind in _CHANGES:
            self._look(event.host)

    def _look(self, owner: JID) -> None:
        self._changed.add(owner.bare)
        if owner.bare not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._follow(owner))
            self._tasks[owner.bare] = task
            task.add_done_callback(lambda _task: self._tasks.pop(owner.bare, None))

    async def _follow(self, owner: JID) -> None:
        while owner.bare in self._changed:
            self._changed.discard(owner.bare)
            try:
                account = await self._accounts.find(owner.bare)
                if account is not None and _NODES & (await self._pubsub.hosts.host(owner)).nodes.keys():
                    await self._agree(account)
                self._remember(owner.bare)
            except DomainError as error:
                log.info("bookmarks could not be kept in step", account=owner.bare, reason=error.text)
            except Exception:
                log.exception("bookmarks could not be kept in step", account=owner.bare)

    def _remember(self, bare: str) -> None:
        if len(self._agreed) >= _REMEMBERED:
            self._agreed.clear()
        self._agreed.add(bare)

    async def _agree(self, account: Account) -> BookmarkList:
        """Bring all three to the same, and return it."""
        async with self._lock(account.jid.bare):
            document = await self._private.find(account, DOCUMENT)
            agreed = shapes.read_list(parse_own(document) if document else None)
            listed = await self._listed(account.jid)
            rooms, ids = await self._rooms(account.jid)
            # A node that is not there has nothing to say; the other one makes it again.
            old = agreed if listed is None else listed
            merged = shapes.merge(agreed, old, agreed.rooms if rooms is None else rooms)
            result = merged.as_list()
            await self._put_rooms(account.jid, rooms or {}, merged.rooms, ids)
            if result != (listed or BookmarkList({})):
                item = NewItem("current", serialise(shapes.write_list(result), "").encode())
                await self._pubsub.publish(account.jid, ns.BOOKMARKS_LEGACY, account.jid, [item])
            if result != agreed:
                text = serialise(shapes.write_list(result), "").encode()
                await self._private.put(account, {DOCUMENT: text}, bounded=False)
            return result

    async def _listed(self, owner: JID) -> BookmarkList | None:
        """The list in its node."""
        if ns.BOOKMARKS_LEGACY not in (await self._pubsub.hosts.host(owner)).nodes:
            return None
        newest = await self._pubsub.items(owner, ns.BOOKMARKS_LEGACY, None, limit=1)
        if not newest or not newest[0].payload:
            return None
        storage = parse_own(newest[0].payload)
        return shapes.read_list(storage) if storage.tag == DOCUMENT else None

    async def _rooms(self, owner: JID) -> tuple[dict[str, Bookmark] | None, dict[str, str]]:
        """The items of the other node by room, and the ids they have; those that name no room are left alone."""
        if ns.BOOKMARKS not in (await self._pubsub.hosts.host(owner)).nodes:
            return None, {}
        rooms: dict[str, Bookmark] = {}
        ids: dict[str, str] = {}
        for item in reversed(await self._pubsub.items(owner, ns.BOOKMARKS, None)):
            room = shapes.room_of(item.id)
            bookmark = shapes.read_item(parse_own(item.payload)) if room is not None and item.payload else None
            if room is not None and bookmark is not None:
                rooms[room], ids[room] = bookmark, item.id
        return rooms, ids

    async def _put_rooms(
        self, owner: JID, before: dict[str, Bookmark], after: dict[str, Bookmark], ids: dict[str, str]
    ) -> None:
        changed = [
            NewItem(ids.get(room, room), serialise(shapes.write_item(bookmark), "").encode())
            for room, bookmark in after.items()
            if before.get(room) != bookmark
        ]
        gone = [ids[room] for room in before if room not in after]
        if changed:
            found = (await self._pubsub.hosts.host(owner)).nodes.get(ns.BOOKMARKS)
            if found is not None and found.node.config.max_items is not None:
                await self._pubsub.configure(owner, ns.BOOKMARKS, None, NodeConfigChange(max_items=None))
            await self._pubsub.publish(owner, ns.BOOKMARKS, owner, changed)
        if gone:
            await self._pubsub.retract(owner, ns.BOOKMARKS, None, gone, notify=True)

    def _lock(self, bare: str) -> asyncio.Lock:
        found = self._locks.get(bare)
        if found is None:
            found = self._locks[bare] = asyncio.Lock()
        return found
