"""Announcements in the store, on both databases."""

from dataclasses import replace

from homeserver.domain.accounts import AccountState, Role
from homeserver.domain.notices import Announcement
from homeserver.storage import accounts, announcements
from homeserver.storage.database import Database

ONE = Announcement(0, 1, None, None, "Hello", 100.0, 9)


async def test_progress_only_grows_until_it_is_finished(database: Database) -> None:
    first = await database.write(announcements.add, ONE)
    second = await database.write(announcements.add, replace(ONE, domain="example.org", role=Role.MEMBER))
    assert await database.read(announcements.unfinished) == replace(ONE, id=first)
    await database.write(announcements.advance, first, 4, 3)
    await database.write(announcements.advance, first, 4, 3)
    await database.write(announcements.advance, first, 2, 2)
    assert await database.read(announcements.find, first) == replace(ONE, id=first, reached=4, told=3)
    await database.write(announcements.finish, first, 200.0)
    await database.write(announcements.finish, first, 300.0)
    left = await database.read(announcements.unfinished)
    assert left == replace(ONE, id=second, domain="example.org", role=Role.MEMBER)
    assert [one.id for one in await database.read(announcements.listing, 5)] == [second, first]
    await database.write(announcements.purge_before, 200.0)
    assert await database.read(announcements.find, first) is not None
    await database.write(announcements.purge_before, 200.1)
    assert [one.id for one in await database.read(announcements.listing, 5)] == [second]


async def test_who_is_told(database: Database) -> None:
    await database.write(accounts.set_state, 2, AccountState.DISABLED)
    await database.write(accounts.set_state, 3, AccountState.DELETED)
    await database.write(accounts.set_role, 5, Role.ADMIN)

    async def found(
        after: int, last: int, limit: int, domain: str | None = None, role: Role | None = None
    ) -> list[int]:
        return [one.id for one in await database.read(accounts.following, after, last, limit, domain, role)]

    assert await found(0, 6, 10) == [1, 4, 5, 6]
    assert await found(1, 9, 2) == [4, 5]
    assert await found(0, 9, 9, "example.org", Role.ADMIN) == [5]
    assert await found(0, 9, 9, "example.com") == []
    assert await database.read(accounts.newest) == 9
    assert await database.read(accounts.count, "example.org", None) == 8
    assert await database.read(accounts.count, "example.org", AccountState.DISABLED) == 1
