"""Avatars: one picture per account, whichever way it was given and is asked for (XEP-0084, XEP-0153, XEP-0398).

The picture is kept in the account's nodes for it. A vCard shows it to whoever may read those nodes, and presence names it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.errors import DomainError, NotAcceptable, TooLarge
from homeserver.domain.pubsub import AccessModel, NewItem, NodeConfigChange, NodeEvent
from homeserver.protocol import namespaces as ns
from homeserver.protocol.images import media_type
from homeserver.protocol.xml import Element, child, children, element, parse_own, serialise

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from homeserver.domain.accounts import Account
    from homeserver.domain.sessions import Session
    from homeserver.protocol.jid import JID
    from homeserver.services.accounts import Accounts
    from homeserver.services.presence import Presence
    from homeserver.services.pubsub.service import PubSub
    from homeserver.services.sessions import Sessions

log = structlog.get_logger(__name__)

_NODES: Final = (ns.AVATAR_METADATA, ns.AVATAR_DATA)
_ANNOUNCED: Final = (AccessModel.OPEN, AccessModel.PRESENCE)
"""What everybody may read who is sent presence."""
_UPDATE: Final = f"{{{ns.VCARD_UPDATE}}}x"


@dataclass(frozen=True, slots=True)
class Avatar:
    """A picture. ``id`` is the SHA-1 of ``data`` in lower case hexadecimal digits (XEP-0084 s4.2.1)."""

    id: str
    media_type: str
    data: bytes


class Avatars:
    """Finds, publishes and announces avatars. ``largest`` is in bytes."""

    def __init__(
        self, pubsub: PubSub, presence: Presence, accounts: Accounts, sessions: Sessions, largest: int
    ) -> None:
        self._pubsub = pubsub
        self._presence = presence
        self._accounts = accounts
        self._sessions = sessions
        self._largest = largest
        self._announced: dict[str, str | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        pubsub.on_event.append(self._told)
        presence.prepare = self._prepare
        presence.decorate = self._decorate
        sessions.on_ended.append(self._ended)

    async def find(self, owner: JID, asker: JID | None) -> Avatar | None:
        """The avatar of an account as far as ``asker`` may read it; None is the server itself.

        Of several pictures it is the one that is kept here, if its id is what its bytes say (XEP-0398 s3.1).
        """
        try:
            newest = await self._pubsub.items(owner, ns.AVATAR_METADATA, asker, limit=1)
            for info in _infos(newest[0].payload) if newest else ():
                for item in await self._pubsub.items(owner, ns.AVATAR_DATA, asker, ids=[info.get("id", "")]):
                    found = _read(item.payload)
                    if found is not None and found.id == info.get("id", "").lower():
                        return found
        except DomainError:
            return None  # there is no such node, or it is not for who asks
        return None

    def checked(self, data: bytes) -> Avatar:
        """The picture with its type. Raises `TooLarge`, and `NotAcceptable` for what is no picture."""
        self.bound(len(data))
        kind = media_type(data)
        if kind is None:
            raise NotAcceptable("a picture is PNG, JPEG, GIF or WebP", kind="modify")
        return Avatar(hashlib.sha1(data, usedforsecurity=False).hexdigest(), kind, data)

    def bound(self, size: int) -> None:
        """Raises `TooLarge` for a picture of so many bytes."""
        if size > self._largest:
            raise TooLarge(f"A picture has at most {self._largest} bytes")

    async def publish(self, account: Account, avatar: Avatar) -> None:
        """Make it the account's avatar, for everybody where the account chose nothing else (XEP-0398 s3.2).

        Does nothing if it is already. Raises what publishing refuses.
        """
        current = await self.find(account.jid, None)
        if current is not None and current.id == avatar.id:
            return
        data = element(ns.AVATAR_DATA, "data", None, base64.b64encode(avatar.data).decode())
        await self._put(account, ns.AVATAR_DATA, avatar.id, data)
        info = {"bytes": str(len(avatar.data)), "id": avatar.id, "type": avatar.media_type}
        metadata = element(ns.AVATAR_METADATA, "metadata", None, element(ns.AVATAR_METADATA, "info", info))
        await self._put(account, ns.AVATAR_METADATA, avatar.id, metadata)

    async def remove(self, account: Account) -> None:
        """Take the avatar away (XEP-0084 s3.5). Does nothing where there is none."""
        nodes = (await self._pubsub.hosts.host(account.jid)).nodes
        if ns.AVATAR_METADATA in nodes:
            newest = await self._pubsub.items(account.jid, ns.AVATAR_METADATA, None, limit=1)
            if newest and any(True for _ in _infos(newest[0].payload, with_url=True)):
                await self._put(account, ns.AVATAR_METADATA, "current", element(ns.AVATAR_METADATA, "metadata"))
        if ns.AVATAR_DATA in nodes and nodes[ns.AVATAR_DATA].items:
            await self._pubsub.purge(account.jid, ns.AVATAR_DATA, None)

    async def settle(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _put(self, account: Account, node: str, id_: str, payload: Element) -> None:
        known = (await self._pubsub.hosts.host(account.jid)).nodes
        options = None if node in known else NodeConfigChange(access_model=AccessModel.OPEN)
        item = NewItem(id_, serialise(payload, "").encode())
        await self._pubsub.publish(account.jid, node, account.jid, [item], options)

    # --- presence ---------------------------------------------------------------------------------------------------

    def _prepare(self, account: Account) -> Awaitable[None] | None:
        return None if account.jid.bare in self._announced else self._load(account)

    async def _load(self, account: Account) -> None:
        self._announced[account.jid.bare] = await self._announceable(account.jid)
        if not self._sessions.of(account.jid.bare):
            self._announced.pop(account.jid.bare, None)

    async def _announceable(self, owner: JID) -> str | None:
        """What presence says of the avatar: its id, "" for none, None for nothing at all: there was never one, or it is
        not for everybody who sees presence (XEP-0398 s7)."""
        try:
            nodes = (await self._pubsub.hosts.host(owner)).nodes
        except DomainError:
            return None
        kept = [nodes[name].node.config.access_model for name in _NODES if name in nodes]
        if len(kept) < len(_NODES) or any(model not in _ANNOUNCED for model in kept):
            return None
        found = await self.find(owner, None)
        return "" if found is None else found.id

    def _decorate(self, session: Session, shown: Element) -> Element:
        """XEP-0398 s4: presence with the id of the avatar, unless the client says that it shows none."""
        known = self._announced.get(session.jid.bare)
        if known is None:
            return shown
        update = shown.find(_UPDATE)
        if update is not None:
            said = child(update, ns.VCARD_UPDATE, "photo")
            if said is not None and (said.text or "").strip().lower() in ("", known):
                return shown
        photo = element(ns.VCARD_UPDATE, "photo", None, *((known,) if known else ()))
        made = Element(shown.tag, shown.attrib)
        made.text = shown.text
        made.extend(part for part in shown if part.tag != _UPDATE)
        made.append(element(ns.VCARD_UPDATE, "x", None, photo))
        return made

    def _told(self, event: NodeEvent) -> None:
        if event.node in _NODES and event.host.bare in self._announced:
            task = asyncio.get_running_loop().create_task(self._changed(event.host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _changed(self, owner: JID) -> None:
        try:
            current = await self._announceable(owner)
            account = await self._accounts.find(owner.bare)
            known = self._announced.get(owner.bare)
            if account is None or owner.bare not in self._announced or known == current:
                return
            self._announced[owner.bare] = current if current is not None or known is None else ""
            self._presence.refresh(account)
        except Exception:
            log.exception("a changed avatar was not announced", account=owner.bare)

    def _ended(self, session: Session) -> None:
        if not self._sessions.of(session.jid.bare):
            self._announced.pop(session.jid.bare, None)


def _infos(payload: bytes, with_url: bool = False) -> list[Element]:
    """What metadata says of pictures that are kept in the data node (XEP-0084 s4.2.1)."""
    found = children(parse_own(payload), ns.AVATAR_METADATA, "info") if payload else ()
    return [info for info in found if with_url or "url" not in info.attrib]


def _read(payload: bytes) -> Avatar | None:
    """The picture of a data item; None for what is none (XEP-0084 s4.1)."""
    encoded = parse_own(payload).text if payload else None
    try:
        data = decoded(encoded or "")
    except NotAcceptable:
        return None
    kind = media_type(data)
    return None if kind is None else Avatar(hashlib.sha1(data, usedforsecurity=False).hexdigest(), kind, data)


def decoded(text: str) -> bytes:
    """Base64 with whatever white space in it (XEP-0153 s4.6). Raises `NotAcceptable`."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAcceptable("the picture is not base64", kind="modify") from error
