"""Notices across restarts and the end of accounts."""

from pathlib import Path

from homeserver.domain.notices import NoticeKind
from homeserver.storage import notices as storage
from tests.kit.world import world


async def test_shown_once_across_restarts(tmp_path: Path) -> None:
    async with world(tmp_path / "p.db") as server:
        await server.notices.set(NoticeKind.MOTD, "a.example", "Tea")
        await server.online("ann")
        await server.notices.settle()
        await server.settle()
    async with world(tmp_path / "p.db") as server:
        found = server.notices.find(NoticeKind.MOTD, "a.example")
        assert found is not None
        assert found.text == "Tea"
        await server.online("ann")
        await server.online("ben")
        await server.notices.settle()
        await server.settle()
        assert await server.archive("ann") == await server.archive("ben") == ["Tea"]


async def test_many_sessions_at_once_are_one_account(tmp_path: Path) -> None:
    async with world(tmp_path / "p.db") as server:
        sessions = [await server.online("ann", f"r{number}") for number in range(5)]
        await server.notices.set(NoticeKind.MOTD, "a.example", "Tea")
        for session in sessions:
            server.notices.greet(session)
        await server.notices.settle()
        await server.settle()
        assert await server.archive("ann") == ["Tea"]


async def test_a_deleted_account_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path / "p.db") as server:
        ann = await server.account("ann")
        await server.notices.set(NoticeKind.MOTD, "a.example", "Tea")
        await server.online("ann")
        await server.notices.settle()
        assert (await server.database.read(storage.known_to, ann.id))[1]
        await server.accounts.delete("ann@a.example")
        await server.settle()
        assert (await server.database.read(storage.known_to, ann.id))[1] == {}
