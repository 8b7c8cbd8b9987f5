"""Two homeservers and the network between them: promises 1 to 4 of the protocol page."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.federation import Peer, two

Pair = tuple[Peer, Peer]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    first, second = await two(tmp_path)
    yield first, second
    await first.close()
    await second.close()


async def test_messages_arrive_once_and_in_order(pair: Pair) -> None:
    first, second = pair
    for number in range(200):
        first.send("b@b.example", number)
        if number % 20 == 0:
            await asyncio.sleep(0)
    assert await second.waits_for(200) == [f"m{number}" for number in range(200)]
    await first.drained()
    assert first.outbox.list() == []


async def test_both_directions_at_once(pair: Pair) -> None:
    first, second = pair
    for number in range(50):
        first.send("b@b.example", number)
        second.send("a@a.example", number)
    assert len(await second.waits_for(50)) == 50
    assert len(await first.waits_for(50)) == 50
