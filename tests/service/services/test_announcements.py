"""Announcements to all: nobody left out, nobody told twice, whatever happens between."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from homeserver.domain.privacy import Strangers
from homeserver.services import announcements
from tests.kit.world import World, world


async def told(server: World, names: list[str]) -> Counter[int]:
    """How many accounts have it how often."""
    return Counter([(await server.archive(name)).count("News") for name in names])


async def test_a_stop_in_the_middle_leaves_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "SLICE", 3)
    names = [f"u{number}" for number in range(40)]
    async with world(tmp_path / "p.db") as server:
        for name in names:
            await server.account(name)
        made = await server.announcements.create(await server.account("u0"), "News")
        async with asyncio.timeout(10):
            while (await server.announcements.find(made.id)).told < 6:
                await asyncio.sleep(0)
        await server.announcements.stop(0)
        found = await server.announcements.find(made.id)
        assert found.finished is None
        assert found.told < 40
        await server.account("later")
    async with world(tmp_path / "p.db") as server:
        await server.announcements.start()
        await server.announcements.settle()
        await server.settle()
        found = await server.announcements.find(made.id)
        assert (found.told, found.finished is None) == (40, False)
        assert await told(server, names) == Counter({1: 40})
        assert await server.archive("later") == []


async def test_several_at_once_each_reach_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "SLICE", 2)
    async with world(tmp_path / "p.db") as server:
        names = [f"u{number}" for number in range(7)]
        for name in names:
            await server.account(name)
        author = await server.account("u0")
        made = await asyncio.gather(*(server.announcements.create(author, "News") for _ in range(5)))
        await server.announcements.settle()
        await server.settle()
        assert await told(server, names) == Counter({5: 7})
        assert [one.told for one in await server.announcements.listing()] == [7] * len(made)


async def test_finished_ones_are_forgotten_after_a_time(server: World) -> None:
    await server.announcements.create(await server.account("u1"), "News")
    await server.announcements.settle()
    server.clock.advance(announcements.KEPT_SECONDS + 1)
    await server.announcements.resume()
    await server.announcements.settle()
    assert await server.announcements.listing() == []


async def test_who_refuses_strangers_hears_the_server(server: World) -> None:
    picky = await server.account("picky")
    await server.privacy.set_strangers(picky, Strangers.REFUSE)
    await server.announcements.create(picky, "News")
    await server.announcements.settle()
    await server.settle()
    assert await server.waiting("picky") == ["News"]


async def test_an_account_for_which_too_much_waits_is_left_out(server: World) -> None:
    full = await server.account("full")
    await server.account("ann")
    server.messaging.full = {full.id}
    made = await server.announcements.create(full, "News")
    await server.announcements.settle()
    assert (await server.announcements.find(made.id)).told == 1
    assert await server.archive("full") == []
