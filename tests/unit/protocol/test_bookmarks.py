"""Bookmarks: both shapes, and what becomes of them when either was changed."""

from xml.etree.ElementTree import fromstring

from homeserver.protocol.bookmarks import (
    Bookmark,
    BookmarkList,
    merge,
    read_item,
    read_list,
    room_of,
    write_item,
    write_list,
)
from homeserver.protocol.xml import serialise

A, B, C = "a@rooms.example", "b@rooms.example", "c@rooms.example"
PIN = "<pinned xmlns='urn:xmpp:bookmarks-pinning:0'/>"
EXTENDED = Bookmark("A", True, "me", None, (f"<extensions xmlns='urn:xmpp:bookmarks:1'>{PIN}</extensions>",))


def test_an_item_is_written_as_it_was_read() -> None:
    text = (
        "<conference xmlns='urn:xmpp:bookmarks:1' name='A' autojoin='1'><nick>me</nick><password>x</password>"
        f"<extensions>{PIN}</extensions></conference>"
    )
    read = read_item(fromstring(text))
    assert read is not None
    assert (read.name, read.autojoin, read.nick, read.password) == ("A", True, "me", "x")
    assert PIN in serialise(write_item(read))
    assert read_item(write_item(read)) == read
    assert read_item(fromstring("<other xmlns='urn:xmpp:bookmarks:1'/>")) is None


def test_a_list_is_written_as_it_was_read() -> None:
    text = (
        "<storage xmlns='storage:bookmarks'><conference jid='A@rooms.example' autojoin='true'/>"
        "<url name='web' url='https://example.org'/><conference jid='not an address' name='odd'/></storage>"
    )
    read = read_list(fromstring(text))
    assert read.rooms == {A: Bookmark(autojoin=True)}
    assert len(read.others) == 2
    assert read_list(write_list(read)) == read
    assert read_list(None) == BookmarkList({})


def test_rooms_are_addresses_with_a_name() -> None:
    assert [room_of(text) for text in ("A@Rooms.example/nick", "rooms.example", "@", "")] == [A, None, None, None]


def test_what_is_new_on_either_side_is_added() -> None:
    agreed = BookmarkList({A: Bookmark("A")})
    old = BookmarkList({A: Bookmark("A"), B: Bookmark("B")})
    merged = merge(agreed, old, {A: Bookmark("A"), C: Bookmark("C")})
    assert set(merged.rooms) == {A, B, C}


def test_what_is_gone_on_either_side_is_removed() -> None:
    agreed = BookmarkList({A: Bookmark("A"), B: Bookmark("B")})
    assert set(merge(agreed, BookmarkList({B: Bookmark("B")}), {A: Bookmark("A"), B: Bookmark("B")}).rooms) == {B}
    assert set(merge(agreed, agreed, {A: Bookmark("A")}).rooms) == {A}


def test_an_old_client_does_not_lose_what_it_does_not_know() -> None:
    agreed = BookmarkList({A: EXTENDED.plain()})
    changed = Bookmark("other name", False, "me")
    merged = merge(agreed, BookmarkList({A: changed}), {A: EXTENDED})
    assert merged.rooms[A].name == "other name"
    assert merged.rooms[A].more == EXTENDED.more


def test_where_both_changed_the_new_shape_wins() -> None:
    agreed = BookmarkList({A: Bookmark("A"), B: Bookmark("B")})
    merged = merge(agreed, BookmarkList({A: Bookmark("old"), B: Bookmark("old")}), {A: Bookmark("new")})
    assert merged.rooms == {A: Bookmark("new")}


def test_nothing_changes_when_all_agree() -> None:
    new = {A: EXTENDED, B: Bookmark("B")}
    agreed = merge(BookmarkList({}), BookmarkList({}), new).as_list()
    again = merge(agreed, agreed, new)
    assert again.rooms == new
    assert again.as_list() == agreed
