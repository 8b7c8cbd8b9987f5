"""Invitations in the store, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from homeserver.domain.accounts import AccountState, Role
from homeserver.domain.errors import Conflict, Forbidden, NotAcceptable
from homeserver.domain.invites import Invitation, InviteKind
from homeserver.protocol.jid import JID
from homeserver.storage import accounts, invites
from homeserver.storage.database import Database
from tests.storage.conftest import Open

NEW = JID.parse("new@example.org")
ONE = Invitation(b"one", InviteKind.BOTH, "example.org", 1, 100.0, 200.0, inviter=1)


@pytest.fixture
async def database(opening: Open) -> AsyncIterator[Database]:
    """With the accounts 1 and 2."""
    async with opening() as found:
        for name in ("u1", "u2"):
            new = accounts.NewAccount(JID.parse(f"{name}@example.org"), Role.MEMBER, [], 0.0, None)
            await found.write(accounts.create, new)
        yield found


async def test_it_is_found_until_its_last_use(database: Database) -> None:
    id_ = await database.write(invites.add, replace(ONE, uses=2, role=Role.GUEST, username="new"), 5)
    found = await database.read(invites.find, b"one")
    assert found == replace(ONE, uses=2, role=Role.GUEST, username="new", id=id_)
    assert await database.read(invites.find, b"other") is None
    taken = await database.write(invites.take_for_account, b"one", 150.0, NEW)
    assert (taken.uses, taken.role) == (1, Role.GUEST)
    await database.write(invites.take_for_contact, b"one", 150.0, 1)
    assert await database.read(invites.find, b"one") is None
    with pytest.raises(Forbidden):
        await database.write(invites.take_for_account, b"one", 150.0, NEW)


async def test_of_many_at_once_one_gets_it(database: Database) -> None:
    await database.write(invites.add, ONE, 5)
    tries = [database.write(invites.take_for_account, b"one", 150.0, NEW) for _ in range(8)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, Invitation) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Forbidden) for outcome in outcomes) == 7


async def test_what_it_is_not_good_for(database: Database) -> None:
    await database.write(invites.add, replace(ONE, uses=9), 5)
    await database.write(invites.add, replace(ONE, digest=b"contact", kind=InviteKind.CONTACT), 5)
    await database.write(invites.add, replace(ONE, digest=b"named", username="bob"), 5)
    await database.write(invites.add, replace(ONE, digest=b"reset", kind=InviteKind.PASSWORD, subject=2), 5)
    wrong = (
        (invites.take_for_account, b"one", 200.0, NEW),
        (invites.take_for_account, b"one", 150.0, JID.parse("new@other.example")),
        (invites.take_for_account, b"contact", 150.0, NEW),
        (invites.take_for_account, b"named", 150.0, NEW),
        (invites.take_for_account, b"reset", 150.0, NEW),
        (invites.take_for_contact, b"one", 150.0, 2),
        (invites.take_for_contact, b"reset", 150.0, 1),
        (invites.take_for_password, b"one", 150.0),
    )
    for how, *arguments in wrong:
        with pytest.raises(Forbidden):
            await database.write(how, *arguments)
    assert (await database.write(invites.take_for_password, b"reset", 150.0)).subject == 2


async def test_a_kept_name_is_for_the_holder_alone(database: Database) -> None:
    await database.write(invites.add, replace(ONE, username="new"), 5)
    with pytest.raises(Conflict):
        await database.write(invites.add, replace(ONE, digest=b"two", username="new"), 5)
    with pytest.raises(Conflict):
        await database.write(invites.add, replace(ONE, digest=b"two", username="u1"), 5)
    stranger = accounts.NewAccount(NEW, Role.MEMBER, [], 150.0, None)
    with pytest.raises(Conflict):
        await database.write(accounts.create, stranger)
    made = await database.write(accounts.create, replace(stranger, invitation=b"one", valid_at=150.0))
    assert made.jid == NEW


async def test_a_kept_name_is_free_when_the_time_is_over(database: Database) -> None:
    await database.write(invites.add, replace(ONE, username="new"), 5)
    late = accounts.NewAccount(NEW, Role.MEMBER, [], 200.0, None)
    assert (await database.write(accounts.create, late)).jid == NEW


async def test_open_ones_are_bounded_for_each(database: Database) -> None:
    for digest in (b"a", b"b"):
        await database.write(invites.add, replace(ONE, digest=digest), 2)
    with pytest.raises(NotAcceptable):
        await database.write(invites.add, replace(ONE, digest=b"c"), 2)
    await database.write(invites.add, replace(ONE, digest=b"c", inviter=2), 2)
    await database.write(invites.add, replace(ONE, digest=b"d", created=200.0, expires=300.0), 2)


async def test_listing_and_revoking_are_for_the_inviter(database: Database) -> None:
    mine = await database.write(invites.add, ONE, 5)
    operators = await database.write(invites.add, replace(ONE, digest=b"o", inviter=None, kind=InviteKind.ACCOUNT), 5)
    assert [one.id for one in await database.read(invites.listing, 1, 150.0)] == [mine]
    assert [one.id for one in await database.read(invites.listing, None, 150.0)] == [operators]
    assert await database.read(invites.listing, 1, 200.0) == []
    assert not await database.write(invites.remove, 2, mine)
    assert not await database.write(invites.remove, None, mine)
    assert await database.write(invites.remove, 1, mine)
    assert not await database.write(invites.remove, 1, mine)
    await database.write(invites.drop_expired, 200.0)
    assert await database.read(invites.find, b"o") is None


@pytest.mark.parametrize("end", ["disabled", "deleted", "guest"])
async def test_who_may_not_invite_any_more_has_invited_nobody(database: Database, end: str) -> None:
    await database.write(invites.add, ONE, 5)
    if end == "guest":
        await database.write(accounts.set_role, 1, Role.GUEST)
    else:
        await database.write(accounts.set_state, 1, AccountState[end.upper()])
    assert await database.read(invites.find, b"one") is None
    with pytest.raises(Forbidden):
        await database.write(invites.take_for_account, b"one", 150.0, NEW)


async def test_a_link_to_a_password_works_once_and_ends_with_any_change(database: Database) -> None:
    reset = replace(ONE, kind=InviteKind.PASSWORD, inviter=None, subject=2)
    await database.write(invites.add, reset, 5)
    await database.write(invites.add, replace(reset, digest=b"two"), 5)
    subject, _ = await database.write(accounts.reset_password, b"one", 150.0, [])
    assert subject == 2
    for digest in (b"one", b"two"):
        with pytest.raises(Forbidden):
            await database.write(accounts.reset_password, digest, 150.0, [])


async def test_searching_by_the_beginning(database: Database) -> None:
    for name in ("anna", "annika", "an%na", "Änne", "hanna"):
        new = accounts.NewAccount(JID.parse(f"{name}@example.org"), Role.MEMBER, [], 0.0, None)
        await database.write(accounts.create, new)
    await database.write(accounts.create, accounts.NewAccount(JID.parse("anne@example.org"), Role.GUEST, [], 0.0, None))
    await database.write(
        accounts.create, accounts.NewAccount(JID.parse("anno@other.example"), Role.MEMBER, [], 0.0, None)
    )

    async def names(beginning: str, limit: int = 50) -> list[str]:
        found = await database.read(accounts.search, "example.org", beginning, limit)
        return [one.jid.local or "" for one in found]

    assert sorted(await names("an")) == ["an%na", "anna", "annika"]
    assert await names("an%") == ["an%na"]
    assert await names("a_n") == []
    assert await names("än") == ["änne"]
    assert len(await names("an", 2)) == 2
    assert await database.read(accounts.having, Role.GUEST) == ["anne@example.org"]
