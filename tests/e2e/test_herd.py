"""Everybody comes back at once after a restart (R-20), and logs in at once (S-52)."""

import asyncio
import time

import pytest

from tests.e2e.conftest import MakeNode
from tests.kit.node import ParleyServer
from tests.kit.raw import RawClient
from tests.kit.wire import resident_bytes, wire

ACCOUNTS = 40


async def crowd(node: ParleyServer, sessions: int) -> tuple[list[RawClient], list[float]]:
    """``sessions`` logins of each account at the same moment: the clients, and seconds until each was bound."""
    begun = time.monotonic()

    async def one(number: int) -> tuple[RawClient, float]:
        client = RawClient(node.endpoint, timeout=60)
        await client.login(node.accounts[number % ACCOUNTS], mechanism=("PLAIN", "SCRAM-SHA-1")[number % 2])
        return client, time.monotonic() - begun

    done = await asyncio.gather(*(one(number) for number in range(ACCOUNTS * sessions)))
    return [client for client, _ in done], sorted(seconds for _, seconds in done)


@pytest.mark.parametrize(
    "sessions", [3, pytest.param(25, marks=[pytest.mark.heavy, pytest.mark.timeout(300)])], ids=["small", "large"]
)
async def test_r20_all_come_back_after_a_kill(make_node: MakeNode, sessions: int) -> None:
    node = make_node([f"user{number}" for number in range(ACCOUNTS)], security="none")
    await node.start()
    clients, first = await crowd(node, sessions)
    await node.kill9()
    for client in clients:
        client.abort()
    await node.start()
    clients, again = await crowd(node, sessions)
    count = len(again)
    print(
        f"{count} logins: first time 99 % in {first[count * 99 // 100]:.2f} s, after the kill in "
        f"{again[count * 99 // 100]:.2f} s, {resident_bytes(node.pid) >> 20} MiB resident"
    )
    assert count == ACCOUNTS * sessions
    for client in clients:
        client.abort()


@pytest.mark.parametrize(
    "sessions", [3, pytest.param(25, marks=[pytest.mark.heavy, pytest.mark.timeout(300)])], ids=["small", "thousand"]
)
async def test_s52_logins_do_not_hold_up_others(make_node: MakeNode, sessions: int) -> None:
    node = make_node([f"user{number}" for number in range(ACCOUNTS)], security="none")
    await node.start()
    async with wire(node.endpoint) as neighbour:
        await neighbour.login(node.domain, node.accounts[0])
        logins = asyncio.create_task(crowd(node, sessions))
        waits: list[float] = []
        while not logins.done():
            begun = time.monotonic()
            await neighbour.ping(f"n{len(waits)}", timeout=10)
            waits.append(time.monotonic() - begun)
        clients, _ = await logins
    for client in clients:
        client.abort()
    waits.sort()
    assert waits[len(waits) * 99 // 100] < 1.0, f"p99 {waits[len(waits) * 99 // 100]:.3f} s of {len(waits)} pings"
