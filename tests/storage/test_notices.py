"""Notices and times of login in the store, on both databases."""

from dataclasses import replace

from homeserver.domain.notices import Notice, NoticeKind
from homeserver.storage import activity, notices
from homeserver.storage.database import Database

MOTD = Notice(NoticeKind.MOTD, "example.org", "Tea", 2**52, 100.0)


async def test_a_notice_replaces_the_one_before(database: Database) -> None:
    await database.write(notices.put, MOTD)
    await database.write(notices.put, replace(MOTD, kind=NoticeKind.WELCOME))
    await database.write(notices.put, replace(MOTD, text="Cake", version=2**52 + 1))
    found = await database.read(notices.every)
    assert found == [replace(MOTD, text="Cake", version=2**52 + 1), replace(MOTD, kind=NoticeKind.WELCOME)]
    assert await database.write(notices.drop, NoticeKind.MOTD, "example.org")
    assert not await database.write(notices.drop, NoticeKind.MOTD, "example.org")
    assert not await database.write(notices.drop, NoticeKind.WELCOME, "example.com")


async def test_what_an_account_was_sent(database: Database) -> None:
    assert await database.read(notices.known_to, 1) == (0.0, {})
    await database.write(notices.note, 1, NoticeKind.MOTD, 5)
    await database.write(notices.note, 1, NoticeKind.MOTD, 2**52)
    await database.write(notices.note, 2, NoticeKind.WELCOME, 1)
    assert await database.read(notices.known_to, 1) == (0.0, {NoticeKind.MOTD: 2**52})
    await database.write(notices.forget, 1)
    assert await database.read(notices.known_to, 1) == (0.0, {})
    assert await database.read(notices.known_to, 2) == (0.0, {NoticeKind.WELCOME: 1})


async def test_times_of_login(database: Database) -> None:
    await database.write(activity.note_login, 1, 10.0)
    await database.write(activity.note_login, 1, 20.5)
    await database.write(activity.note_login, 2, 30.0)
    assert await database.read(activity.logins, [1, 2, 3]) == {1: 20.5, 2: 30.0}
    await database.write(activity.clear_login, 1)
    assert await database.read(activity.logins, [1, 2, 3]) == {2: 30.0}
