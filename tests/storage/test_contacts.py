"""Rosters in the store, on both databases."""

from dataclasses import replace

import pytest

from homeserver.domain.accounts import Role
from homeserver.domain.errors import ResourceConstraint
from homeserver.domain.rosters import Contact
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID
from homeserver.storage import accounts, activity, contacts
from homeserver.storage.database import Database, open_database
from tests.storage.conftest import Section

ROMEO = JID.parse("romeo@far.example")
NOW = 1_763_600_000_000_000


@pytest.fixture
async def database(section: Section):  # type: ignore[no-untyped-def]
    async with open_database(section) as found:
        yield found


async def owner(database: Database, name: str = "alice") -> int:
    new = accounts.NewAccount(JID.parse(f"{name}@a.example"), Role.MEMBER, [], 0.0, None)
    return (await database.write(accounts.create, new)).id


def wanted(account: int, jid: JID = ROMEO, request: bytes | None = None, limit: int = 10, **new: object):  # type: ignore[no-untyped-def]
    return contacts.Wanted(account, jid, lambda before: replace(before, **new), NOW, request, limit, limit)  # type: ignore[arg-type]


async def test_what_was_stored_is_loaded(database: Database) -> None:
    account = await owner(database)
    other = await owner(database, "bob")
    await database.write(
        contacts.change, wanted(account, listed=True, name="Ro'meo", groups=("G & H", "ü"), state=State.FROM_OUT)
    )
    await database.write(contacts.change, wanted(account, listed=True, approved=True))
    roster = await database.read(contacts.load, account)
    assert roster.listed() == [
        Contact(ROMEO, "Ro'meo", ("G & H", "ü"), State.FROM_OUT, True, True, roster.version),
    ]
    assert roster.version > NOW
    assert roster.floor == NOW
    assert (await database.read(contacts.load, other)).listed() == []


async def test_versions_grow_with_what_clients_see(database: Database) -> None:
    account = await owner(database)
    first = await database.write(contacts.change, wanted(account, listed=True))
    same = await database.write(contacts.change, wanted(account, listed=True))
    asked = await database.write(contacts.change, wanted(account, state=State.NONE_IN, request=b"<r/>"))
    named = await database.write(contacts.change, wanted(account, name="R"))
    assert first.is_visible
    assert not same.is_visible
    assert not asked.is_visible
    assert first.version == same.version == asked.version < named.version


async def test_a_request_is_kept_once_and_goes_with_its_answer(database: Database) -> None:
    account = await owner(database)
    await database.write(contacts.change, wanted(account, state=State.NONE_IN, request=b"first"))
    await database.write(contacts.change, wanted(account, state=State.NONE_IN, request=b"second"))
    assert await database.read(contacts.requests, account) == [(ROMEO.bare, b"first")]
    gone = await database.write(contacts.change, wanted(account, state=State.NONE))
    assert gone.forgotten
    assert await database.read(contacts.requests, account) == []
    assert (await database.read(contacts.load, account)).get(ROMEO.bare) is None


async def test_a_full_roster_stores_nothing(database: Database) -> None:
    account = await owner(database)
    for number in range(2):
        await database.write(contacts.change, wanted(account, JID.parse(f"c{number}@x.example"), limit=2, listed=True))
    with pytest.raises(ResourceConstraint):
        await database.write(contacts.change, wanted(account, limit=2, listed=True))
    roster = await database.read(contacts.load, account)
    assert len(roster.listed()) == 2
    await database.write(contacts.change, wanted(account, JID.parse("c0@x.example"), limit=2, name="still"))


async def test_a_refusal_in_the_decision_stores_nothing(database: Database) -> None:
    account = await owner(database)

    def refuse(_before: Contact) -> Contact:
        raise ResourceConstraint

    with pytest.raises(ResourceConstraint):
        await database.write(contacts.change, contacts.Wanted(account, ROMEO, refuse, NOW, None, 10, 10))
    assert (await database.read(contacts.load, account)).version == 0


async def test_clear_removes_everything_of_one_account(database: Database) -> None:
    account, other = await owner(database), await owner(database, "bob")
    for one in (account, other):
        await database.write(contacts.change, wanted(one, listed=True))
    await database.write(contacts.clear, account)
    assert (await database.read(contacts.load, account)).listed() == []
    assert len((await database.read(contacts.load, other)).listed()) == 1


async def test_last_activity_is_the_latest(database: Database) -> None:
    account = await owner(database)
    assert await database.read(activity.last, account) is None
    await database.write(activity.note, account, 1.5, "bye")
    await database.write(activity.note, account, 2.5, "")
    assert await database.read(activity.last, account) == (2.5, "")
    await database.write(activity.clear, account)
    assert await database.read(activity.last, account) is None
