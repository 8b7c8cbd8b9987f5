"""Everybody comes back at once after a restart (R-20), and logs in at once (S-52)."""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.e2e.conftest import MakeNode
from tests.kit.raw import RawClient
from tests.kit.server import Account, Endpoint
from tests.kit.wire import resident_bytes, wire

ACCOUNTS = 40


async def crowd(endpoint: Endpoint, accounts: Sequence[Account], sessions: int) -> tuple[list[RawClient], list[float]]:
    """``sessions`` logins of each account at the same moment: the clients, and seconds until each was bound."""
    begun = time.monotonic()

    async def one(number: int) -> tuple[RawClient, float]:
        client = RawClient(endpoint, timeout=120)
        await client.login(accounts[number % ACCOUNTS], mechanism=("PLAIN", "SCRAM-SHA-1")[number % 2])
        return client, time.monotonic() - begun

    done = await asyncio.gather(*(one(number) for number in range(ACCOUNTS * sessions)))
    return [client for client, _ in done], sorted(seconds for _, seconds in done)


@pytest.mark.parametrize(
    "sessions", [3, pytest.param(25, marks=[pytest.mark.heavy, pytest.mark.timeout(300)])], ids=["small", "large"]
)
async def test_r20_all_come_back_after_a_kill(make_node: MakeNode, sessions: int) -> None:
    node = make_node([f"user{number}" for number in range(ACCOUNTS)], security="none")
    await node.start()
    clients, first = await crowd(node.endpoint, node.accounts, sessions)
    await node.kill9()
    for client in clients:
        client.abort()
    await node.start()
    clients, again = await crowd(node.endpoint, node.accounts, sessions)
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
    waits: list[float] = []
    # The clients derive keys as well: in a process of their own they do not hold up the one who measures.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        async with wire(node.endpoint) as neighbour:
            await neighbour.login(node.domain, node.accounts[0])
            storm = asyncio.get_running_loop().run_in_executor(
                elsewhere, logins, node.endpoint, node.accounts, sessions
            )
            while not storm.done():
                begun = time.monotonic()
                await neighbour.ping(f"n{len(waits)}", timeout=30)
                waits.append(time.monotonic() - begun)
                await asyncio.sleep(0.005)
            assert await storm == ACCOUNTS * sessions
    waits.sort()
    assert waits[len(waits) * 99 // 100] < 1.0, f"p99 {waits[len(waits) * 99 // 100]:.3f} s of {len(waits)} pings"


def logins(endpoint: Endpoint, accounts: Sequence[Account], sessions: int) -> int:
    """A crowd that comes and goes; how many got in."""
    clients, _ = asyncio.run(crowd(endpoint, accounts, sessions))
    return len(clients)
