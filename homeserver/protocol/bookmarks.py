"""Bookmarks of rooms in their two shapes, and what becomes of both when either was changed.

XEP-0402 has an item per room; XEP-0048 has one list, which is in an item of its own and in private storage (XEP-0049).
`merge` compares both with what they last agreed on, so a change on either side is told from a lack on the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element, child, element, parse_own, serialise, text_of

_TRUE: Final = ("true", "1")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A room (XEP-0402 s2). ``more`` are serialised elements that only the new shape has, ``<extensions/>`` among them."""

    name: str | None = None
    autojoin: bool = False
    nick: str | None = None
    password: str | None = None
    more: tuple[str, ...] = ()

    def plain(self) -> "Bookmark":
        """What the old shape has of it."""
        return replace(self, more=())


Rooms = Mapping[str, Bookmark]
"""By the bare JID of the room."""


@dataclass(frozen=True, slots=True)
class BookmarkList:
    """The old shape (XEP-0048 s2): rooms, and whatever else is in it (web pages) as serialised elements."""

    rooms: Rooms
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """What both shapes shall be."""

    rooms: dict[str, Bookmark]
    others: tuple[str, ...]

    def as_list(self) -> BookmarkList:
        """In the old shape."""
        return BookmarkList({room: bookmark.plain() for room, bookmark in self.rooms.items()}, self.others)


def merge(agreed: BookmarkList, old: BookmarkList, new: Rooms) -> Merged:
    """Apply what changed in either since both agreed; where both changed one room, the new shape wins."""
    rooms = dict(new)
    for room in [*agreed.rooms, *(room for room in old.rooms if room not in agreed.rooms)]:
        before, after = agreed.rooms.get(room), old.rooms.get(room)
        current = new.get(room)
        if after == before or (current.plain() if current is not None else None) != before:
            continue
        if after is None:
            rooms.pop(room, None)
        else:
            rooms[room] = replace(after, more=current.more if current is not None else ())
    return Merged(rooms, old.others)


def room_of(text: str) -> str | None:
    """The bare JID of a room as it is compared, or None for what names no room."""
    try:
        found = JID.parse(text)
    except InvalidJID:
        return None
    return found.bare if found.local else None


def read_item(payload: Element) -> Bookmark | None:
    """A ``<conference/>`` of XEP-0402 s2; None for another element."""
    if payload.tag != f"{{{ns.BOOKMARKS}}}conference":
        return None
    known = (f"{{{ns.BOOKMARKS}}}nick", f"{{{ns.BOOKMARKS}}}password")
    more = tuple(serialise(part, "") for part in payload if part.tag not in known)
    return replace(_read(payload, ns.BOOKMARKS), more=more)


def write_item(bookmark: Bookmark) -> Element:
    """The ``<conference/>`` of XEP-0402."""
    made = _write(bookmark, ns.BOOKMARKS)
    made.extend(parse_own(part.encode()) for part in bookmark.more)
    return made


def read_list(storage: Element | None) -> BookmarkList:
    """A ``<storage/>`` of XEP-0048; of several for one room the last counts."""
    rooms: dict[str, Bookmark] = {}
    others: list[str] = []
    for part in storage if storage is not None else ():
        room = room_of(part.get("jid", "")) if part.tag == f"{{{ns.BOOKMARKS_LEGACY}}}conference" else None
        if room is None:
            others.append(serialise(part, ""))
        else:
            rooms[room] = _read(part, ns.BOOKMARKS_LEGACY)
    return BookmarkList(rooms, tuple(others))


def write_list(bookmarks: BookmarkList) -> Element:
    """The ``<storage/>`` of XEP-0048."""
    made = element(ns.BOOKMARKS_LEGACY, "storage")
    for room, bookmark in bookmarks.rooms.items():
        conference = _write(bookmark, ns.BOOKMARKS_LEGACY)
        conference.set("jid", room)
        made.append(conference)
    made.extend(parse_own(part.encode()) for part in bookmarks.others)
    return made


def _read(conference: Element, namespace: str) -> Bookmark:
    return Bookmark(
        conference.get("name"),
        conference.get("autojoin", "") in _TRUE,
        text_of(conference, namespace, "nick"),
        text_of(conference, namespace, "password") if child(conference, namespace, "password") is not None else None,
    )


def _write(bookmark: Bookmark, namespace: str) -> Element:
    made = element(namespace, "conference")
    if bookmark.name is not None:
        made.set("name", bookmark.name)
    if bookmark.autojoin:
        made.set("autojoin", "true")
    if bookmark.nick is not None:
        made.append(element(namespace, "nick", None, bookmark.nick))
    if bookmark.password is not None:
        made.append(element(namespace, "password", None, bookmark.password))
    return made
