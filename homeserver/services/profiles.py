"""Profiles: the vCard of an account in both shapes, and what JSON clients show of it (XEP-0054, XEP-0292).

What both shapes have is kept in the node of the newer one; the rest of a vcard-temp is a row of its own. Who may read that
node may read the vCard in either shape: everybody, where the account did not choose otherwise.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from homeserver.domain.errors import BadRequest, DomainError, NotFound, TooLarge
from homeserver.domain.pubsub import AccessModel, NewItem, NodeConfigChange
from homeserver.protocol import namespaces as ns
from homeserver.protocol import vcards
from homeserver.protocol.xml import Element, element, fits_xml, parse_own, serialise, text_of
from homeserver.services.accounts import Ending, Revocation
from homeserver.services.avatars import decoded
from homeserver.storage import vcards as storage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from homeserver.domain.accounts import Account
    from homeserver.protocol.jid import JID
    from homeserver.services.avatars import Avatar, Avatars
    from homeserver.services.pubsub.service import PubSub
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

_VCARD4: Final = f"{{{ns.VCARD4}}}vcard"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is shown of an account. ``name`` and ``bio`` are "" where nothing was said."""

    name: str
    bio: str
    avatar: Avatar | None


def profile_of(vcard: Element | None, avatar: Avatar | None) -> Profile:
    """What a ``<vCard/>`` says."""
    if vcard is None:
        return Profile("", "", avatar)
    name = text_of(vcard, ns.VCARD, "FN") or text_of(vcard, ns.VCARD, "NICKNAME") or ""
    bio = text_of(vcard, ns.VCARD, "NOTE") or text_of(vcard, ns.VCARD, "DESC") or ""
    return Profile(name.strip(), bio.strip(), avatar)


class Profiles:
    """vCards of accounts. ``largest`` bytes are one without its picture.

    ``asker`` is who wants to see: the account itself sees all.
    """

    def __init__(self, database: Database, pubsub: PubSub, avatars: Avatars, largest: int) -> None:
        self._database = database
        self._pubsub = pubsub
        self.avatars = avatars
        self._largest = largest
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._leaving: set[asyncio.Task[None]] = set()

    async def vcard(self, account: Account, asker: JID) -> Element | None:
        """The ``<vCard/>``, with the avatar as its picture; None where there is nothing that ``asker`` may see."""
        found = await self._visible(account, asker)
        avatar = await self.avatars.find(account.jid, asker)
        return found if avatar is None else vcards.with_photo(found, avatar.media_type, _encoded(avatar))

    async def set_vcard(self, account: Account, vcard: Element) -> None:
        """Replace the ``<vCard/>``; one without a picture takes the avatar away (XEP-0153 s3.1, XEP-0398 s3.2).

        Durable when it returns. Raises `TooLarge`, `NotAcceptable` for a picture that is none, and what publishing
        refuses.
        """
        photo = vcards.photo_of(vcard)
        avatar = None if photo is None else self.avatars.checked(decoded(text_of(photo, ns.VCARD, "BINVAL") or ""))
        async with self._lock(account):
            await self._store(account, vcards.without_photo(vcard))
            if avatar is not None:
                await self.avatars.publish(account, avatar)
            elif not vcards.has_picture_elsewhere(vcard):
                await self.avatars.remove(account)

    async def profile(self, account: Account, asker: JID) -> Profile:
        """What is shown of an account to ``asker``."""
        found = await self._visible(account, asker)
        return profile_of(found, await self.avatars.find(account.jid, asker))

    async def set_profile(self, account: Account, name: str, bio: str) -> None:
        """Replace name and text; everything else of the vCard stays. Raises as `set_vcard`, and `BadRequest` for characters
        that XML cannot hold."""
        if not (fits_xml(name) and fits_xml(bio)):
            raise BadRequest("a text holds a character that is not allowed")
        async with self._lock(account):
            before = await self._visible(account, account.jid)
            made = element(ns.VCARD, "vCard")
            replaced = {f"{{{ns.VCARD}}}{field}" for field in ("FN", "NOTE", "DESC")}
            if name:
                made.append(element(ns.VCARD, "FN", None, name))
            if bio:
                made.append(element(ns.VCARD, "NOTE", None, bio))
            made.extend(part for part in (before if before is not None else ()) if part.tag not in replaced)
            await self._store(account, made)

    async def names(self, accounts: Iterable[Account], asker: JID) -> dict[str, str]:
        """The names that ``asker`` may see, by bare JID; accounts without one are left out."""
        found = {}
        for account in accounts:
            vcard = await self._visible(account, asker)
            name = "" if vcard is None else (text_of(vcard, ns.VCARD, "FN") or "").strip()
            if name:
                found[account.jid.bare] = name
        return found

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

    async def _visible(self, account: Account, asker: JID) -> Element | None:
        """The ``<vCard/>`` without the avatar."""
        try:
            four = await self._vcard4(account, asker)
        except NotFound:
            four = None
        except DomainError:
            return None
        row = await self._database.read(storage.of, account.id)
        temp = None if row is None else parse_own(row)
        return temp if four is None else vcards.to_temp(four, temp)

    async def _vcard4(self, account: Account, asker: JID | None) -> Element | None:
        newest = await self._pubsub.items(account.jid, ns.VCARD4_NODE, asker, limit=1)
        found = parse_own(newest[0].payload) if newest and newest[0].payload else None
        return found if found is not None and found.tag == _VCARD4 else None

    async def _store(self, account: Account, temp: Element) -> None:
        text = serialise(temp, "").encode()
        if len(text) > self._largest:
            raise TooLarge(f"A vCard without its picture has at most {self._largest} bytes")
        try:
            before = await self._vcard4(account, None)
            options = None
        except NotFound:
            before, options = None, NodeConfigChange(access_model=AccessModel.OPEN)
        four = serialise(vcards.to_vcard4(temp, before), "").encode()
        if before is None or four != serialise(before, "").encode():
            item = NewItem("current", four)
            await self._pubsub.publish(account.jid, ns.VCARD4_NODE, account.jid, [item], options)
        await self._database.write(storage.put, account.id, text)

    async def _clear(self, account: Account) -> None:
        try:
            await self._database.write(storage.clear, account.id)
        except Exception:
            log.exception("the vCard of a deleted account was not removed", account=account.jid.bare)

    def _lock(self, account: Account) -> asyncio.Lock:
        found = self._locks.get(account.id)
        if found is None:
            found = self._locks[account.id] = asyncio.Lock()
        return found


def _encoded(avatar: Avatar) -> str:
    return base64.b64encode(avatar.data).decode()
