"""A bad network between two nodes (R-10, R-13, R-14): nothing is lost, doubled or swapped, and nothing is silent."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.e2e.conftest import MakePair
from tests.e2e.storm import Fault, Outcome, Plan, Storm, account_names
from tests.kit.node import Ports
from tests.kit.proxy import FaultProxy

SENDERS = 1
DOMAINS = ("one.example", "two.example")
Trouble = Callable[[FaultProxy, FaultProxy], Awaitable[None]]


@contextlib.asynccontextmanager
async def between(ports: dict[str, Ports]) -> AsyncIterator[tuple[FaultProxy, FaultProxy]]:
    """A proxy in front of each node's https listener."""
    async with FaultProxy(ports[DOMAINS[0]].https) as one, FaultProxy(ports[DOMAINS[1]].https) as two:
        yield one, two


async def storm(make_pair: MakePair, trouble: Trouble, seconds: float) -> Outcome:
    """Two nodes behind proxies chat for ``seconds``; ``trouble`` has its way with the proxies until then."""
    ports = {domain: Ports.free() for domain in DOMAINS}
    async with between(ports) as proxies:
        reach = {domain: proxy.port for domain, proxy in zip(DOMAINS, proxies, strict=True)}
        nodes = make_pair(account_names(SENDERS), domains=DOMAINS, ports=ports, reach=reach)
        plan = Plan((Fault(0, "wait", seconds),), senders=SENDERS, calm=12)
        making = asyncio.create_task(weather(trouble, proxies, seconds))
        outcome = await Storm(nodes, plan).run()
        await making
        print(outcome.report())
        assert not outcome.verdict.failures(), outcome.report()
        assert outcome.verdict.acknowledged == outcome.verdict.sent > 50
        assert all(proxy.connections for proxy in proxies), "nothing went through the proxies"
        return outcome


async def weather(trouble: Trouble, proxies: tuple[FaultProxy, FaultProxy], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await trouble(*proxies)
    for proxy in proxies:
        proxy.there.delay = proxy.back.delay = proxy.there.jitter = proxy.back.jitter = 0.0
        proxy.there.reset_chance = proxy.back.reset_chance = 0.0
        proxy.there.cut_after = proxy.back.cut_after = None
        proxy.thaw()


async def test_r10_dead_network_that_comes_back(make_pair: MakePair) -> None:
    async def dead(one: FaultProxy, two: FaultProxy) -> None:
        while True:
            await asyncio.sleep(1)
            one.freeze()
            two.freeze()
            await asyncio.sleep(2)
            one.thaw()
            two.thaw()

    await storm(make_pair, dead, seconds=8)


async def test_r13_slow_network_that_resets(make_pair: MakePair) -> None:
    async def slow(*proxies: FaultProxy) -> None:
        for proxy in proxies:
            for lane in (proxy.there, proxy.back):
                lane.delay, lane.jitter, lane.reset_chance = 0.02, 0.05, 0.02
        await asyncio.Event().wait()

    outcome = await storm(make_pair, slow, seconds=8)
    assert outcome.verdict.received > 0


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.heavy), pytest.param(3, marks=pytest.mark.heavy)]
)
async def test_r14_answers_that_break_off_have_no_second_effect(make_pair: MakePair, seed: int) -> None:
    chance = random.Random(seed)

    async def cut(*proxies: FaultProxy) -> None:
        while True:
            for proxy in proxies:
                proxy.back.cut_after = chance.choice((None, chance.randint(1_000, 6_000)))
            await asyncio.sleep(0.3)

    await storm(make_pair, cut, seconds=8)
