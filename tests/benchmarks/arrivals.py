"""Logins of clients with contacts: what `logins` does, with a contact list to fetch and newest items of contacts to be given.

The contacts are away; some have published an avatar. A login is over when its ping is answered and the items are there.
"""

import asyncio
import multiprocessing
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from tests.benchmarks.caps import METADATA, Capabilities
from tests.benchmarks.fanout import publication
from tests.benchmarks.logins import Figures, Keys, Login, Neighbour
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.wire import Account, Connection

CAPS: Final = Capabilities((METADATA,))
_SASL2: Final = b"urn:xmpp:sasl:2"
_ITEM: Final = b"</event>"


class Arrival(Login):
    """A login that is over when ``items`` notifications have come as well."""

    def __init__(self, account: Account, keys: Keys, items: int) -> None:
        super().__init__(account, keys)
        self._items = items

    async def inline(self) -> None:
        """SASL2 with Bind 2, no token."""
        self.client = secrets.token_hex(16)
        begin = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-256'><initial-response>"
        answer = await self._scram(begin, f"</initial-response>{self._inline()}</authenticate>", _SASL2.decode())
        self._demand(b"<bound" in answer, answer)
        await self._ready()

    async def _ready(self) -> None:
        self._send(
            "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>"
            f"<presence>{CAPS.element()}</presence><iq type='get' id='ready'><ping xmlns='urn:xmpp:ping'/></iq>"
        )
        missing = self._items
        is_answered = False
        while missing > 0 or not is_answered:
            if not self._buffer or (_ITEM not in self._buffer and b"ready" not in self._buffer):
                async with asyncio.timeout(60):
                    data = await self.reader.read(65536)
                self._demand(bool(data), self._buffer)
                self._buffer += data
            is_answered = is_answered or b"ready" in self._buffer
            missing -= self._buffer.count(_ITEM)
            self._buffer = self._buffer[self._buffer.rfind(b">") + 1 :]


def publish(accounts: Sequence[Account]) -> None:
    """Every account publishes an item and leaves. The first one explains the capabilities that `Arrival` advertises."""
    change = publication(METADATA)
    for number, account in enumerate(accounts):
        connection = Connection(account)
        connection.login()
        if number == 0:
            connection.show(CAPS, is_asked=True)
        connection.ask("publishing", (change % (number, number)).decode())
        connection.close()


class Crowd:
    """Accounts that log in again and again, in a process of its own: what it computes must not hold up who measures."""

    def __init__(self, accounts: Sequence[Account], items: int) -> None:
        self._accounts = accounts
        self._items = items
        self._keys = Keys()

    async def warm(self) -> None:
        """One login of each."""
        for account in self._accounts:
            await self._one(account)

    async def steady(self, rate: float, seconds: float) -> None:
        """Logins at a fixed rate; an account begins anew when its login before is done."""
        free: asyncio.Queue[Account] = asyncio.Queue()
        for account in self._accounts:
            free.put_nowait(account)

        async def one(account: Account) -> None:
            await self._one(account)
            free.put_nowait(account)

        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, begun + number / rate - loop.time()))
                group.create_task(one(await free.get()))

    async def herd(self, count: int) -> None:
        """All at the same moment, connections included."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._one(self._accounts[number % len(self._accounts)]))

    async def _one(self, account: Account) -> None:
        login = Arrival(account, self._keys, self._items)
        await login.connect()
        try:
            await (login.inline() if _SASL2 in login.features else login.classic())
        finally:
            await login.close()


def _steady(crowd: Crowd, rate: float, seconds: float) -> float:
    """CPU seconds of the generator."""
    began = time.process_time()
    asyncio.run(crowd.steady(rate, seconds))
    return time.process_time() - began


def _herd(crowd: Crowd, count: int) -> float:
    """Seconds until the last is in."""
    began = time.perf_counter()
    asyncio.run(crowd.herd(count))
    return time.perf_counter() - began


def _warmed(crowd: Crowd) -> Crowd:
    asyncio.run(crowd.warm())
    return crowd


async def measure(job: dict[str, Any]) -> Figures:
    """The first ``job["publishers"]`` accounts are contacts with an item, the last account is the neighbour."""
    accounts = [Account(**fields) for fields in job["accounts"]]
    pids, rate, seconds, items = job["pids"], job["rate"], job["seconds"], job["publishers"]
    publish(accounts[:items])
    first = Login(accounts[-1], Keys())
    await first.connect()
    await first.classic()
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        crowd = await loop.run_in_executor(elsewhere, _warmed, Crowd(accounts[items:-1], items))
        before = cpu_seconds(pids)
        async with Neighbour(first) as steady:
            used = await loop.run_in_executor(elsewhere, _steady, crowd, rate, seconds)
        cpu = cpu_seconds(pids) - before
        async with Neighbour(first) as herd:
            last = await loop.run_in_executor(elsewhere, _herd, crowd, job["herd"])
    await first.close()
    return {
        "arrival_cpu_ms": 1000 * cpu / int(rate * seconds),
        "arrival_ping_p99_ms": steady.p99_ms(),
        "arrivals_at_once_s": last,
        "arrivals_at_once_ping_p99_ms": herd.p99_ms(),
        "generator_share": used / seconds,
    }


def run(job: dict[str, Any]) -> Figures:
    """One job of the generator."""
    return asyncio.run(measure(job))
