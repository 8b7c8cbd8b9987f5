"""Rosters in memory."""

from homeserver.domain.rosters import Contact, Roster
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID


def contact(name: str, state: State = State.NONE, version: int = 1, listed: bool = True) -> Contact:
    return Contact(JID.parse(f"{name}@x.example"), state=state, version=version, listed=listed)


def bares(contacts: object) -> list[str]:
    return [jid.local for jid in contacts]  # type: ignore[attr-defined]


def test_who_sees_whom() -> None:
    roster = Roster(1, contacts=[contact(state.name.lower(), state) for state in State])
    assert bares(roster.subscribers) == ["from", "from_out", "both"]
    assert bares(roster.subscriptions) == ["to", "to_in", "both"]
    assert roster.shares_with("both@x.example")
    assert not roster.shares_with("to@x.example")
    assert not roster.receives_from("nobody@x.example")
    assert [found.jid.local for found in roster.asking()] == ["none_in", "none_out_in", "to_in"]


def test_a_change_is_seen_at_once() -> None:
    roster = Roster(1, contacts=[contact("a", State.NONE)])
    assert bares(roster.subscribers) == []
    roster.apply(contact("a", State.BOTH))
    assert bares(roster.subscribers) == ["a"]
    roster.apply(contact("a", listed=False), forgotten=True)
    assert bares(roster.subscribers) == []
    assert roster.get("a@x.example") is None


def test_what_changed_since() -> None:
    roster = Roster(
        1, 9, 3, [contact("old", version=2), contact("new", version=9), contact("gone", version=5, listed=False)]
    )
    assert [(found.jid.local, found.listed) for found in roster.changed_since(4) or []] == [
        ("gone", False),
        ("new", True),
    ]
    assert roster.changed_since(9) == []
    assert roster.changed_since(2) is None
    assert roster.changed_since(10) is None


def test_more_changes_than_items_are_not_told_one_by_one() -> None:
    gone = [contact(f"g{number}", version=number, listed=False) for number in range(4, 8)]
    assert Roster(1, 9, 3, [*gone, contact("one")]).changed_since(3) is None


def test_trimmed_removals_are_forgotten_but_not_requests() -> None:
    asked = contact("asks", State.NONE_IN, version=4, listed=False)
    roster = Roster(1, 9, 3, [contact("gone", version=4, listed=False), asked, contact("kept", version=4)])
    roster.trim(5)
    assert roster.get("gone@x.example") is None
    assert roster.get("asks@x.example") is asked
    assert roster.get("kept@x.example") is not None
    assert roster.floor == 5


def test_a_request_is_no_part_of_what_clients_see() -> None:
    plain = contact("a", State.TO)
    assert plain.looks_like(contact("a", State.TO_IN))
    assert not plain.looks_like(contact("a", State.BOTH))
    assert contact("a", listed=False).looks_like(contact("a", State.NONE_IN, listed=False))
    assert not plain.looks_like(contact("a", State.TO, listed=False))
