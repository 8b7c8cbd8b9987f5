"""Whom an entry of a list stands for (XEP-0191 s6, XEP-0441 s2.3)."""

import pytest

from homeserver.domain.privacy import ArchivePreferences, Archiving, Facts, covers
from homeserver.domain.rosters import Contact, Roster
from homeserver.protocol.jid import JID

OWNER = JID.parse("ann@a.example")


@pytest.mark.parametrize(
    ("entry", "blocked", "free"),
    [
        ("eve@b.example/x", ["eve@b.example/x"], ["eve@b.example", "eve@b.example/y"]),
        ("eve@b.example", ["eve@b.example", "eve@b.example/x"], ["eva@b.example", "b.example"]),
        ("b.example/x", ["b.example/x"], ["b.example", "b.example/y", "eve@b.example/x"]),
        (
            "b.example",
            ["b.example", "b.example/x", "eve@b.example", "eve@b.example/x"],
            ["c.b.example", "eve@c.example"],
        ),
        ("ann@a.example", [], ["ann@a.example", "ann@a.example/x"]),
        ("a.example", ["eve@a.example", "a.example/x"], ["a.example", "ann@a.example/x"]),
    ],
)
def test_matching(entry: str, blocked: list[str], free: list[str]) -> None:
    facts = Facts(OWNER, frozenset([entry]))
    assert [jid for jid in blocked + free if facts.blocks(JID.parse(jid))] == blocked
    assert all(covers([entry], JID.parse(jid)) for jid in blocked)


@pytest.mark.parametrize(
    ("default", "always", "never", "kept"),
    [
        ("always", [], [], ["bob@a.example", "eve@b.example/x"]),
        ("never", [], [], []),
        ("roster", [], [], ["bob@a.example"]),
        ("roster", ["eve@b.example"], ["bob@a.example"], ["eve@b.example/x"]),
        ("never", ["eve@b.example/x"], [], ["eve@b.example/x"]),
        ("always", [], ["eve@b.example/y"], ["bob@a.example", "eve@b.example/x"]),
        ("always", ["eve@b.example/x"], ["eve@b.example"], ["bob@a.example", "eve@b.example/x"]),
    ],
)
def test_archive_preferences(default: str, always: list[str], never: list[str], kept: list[str]) -> None:
    roster = Roster(1, contacts=[Contact(JID.parse("bob@a.example"), listed=True)])
    preferences = ArchivePreferences(Archiving(default), frozenset(always), frozenset(never))
    peers = ["bob@a.example", "eve@b.example/x"]
    assert [peer for peer in peers if preferences.keeps(JID.parse(peer), roster)] == kept
