"""The kill storm: clients chat, servers die, and a ledger outside of them says what was lost or doubled.

Senders number their messages, carry an origin-id and resend what was not acknowledged, with the same ids. Receivers are
online (acknowledge at once), flapping (TCP drops about every second, resumed), silent (never acknowledge) and offline
(log in at the end). Run by hand: ``python -m tests.e2e.storm --kills 20 --server parley``.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from tests.kit.authority import Authority
from tests.kit.checker import Key, Ledger, Verdict
from tests.kit.managed import ManagedClient, Observer
from tests.kit.node import ParleyServer, parley_pair
from tests.kit.postgres import Cluster, cluster
from tests.kit.prosody import ProsodyServer, prosody_pair
from tests.kit.server import Account, Security, Server

RECEIVERS: Final = ("online", "flapping", "silent", "offline")
Action = Literal["kill", "term", "freeze", "wait"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One blow to server number ``side``.

    "kill" and "term" end it and start it again ``seconds`` later; "freeze" stops it for ``seconds``, then kills it;
    "wait" does nothing for ``seconds``: something else is in the way.
    """

    side: int
    action: Action = "kill"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One storm. ``senders``: per server; ``rate``: messages per second and sender; ``window``: most unacknowledged
    messages of a sender; ``archive`` False: clients that know no archive; ``calm``: seconds without progress after
    which the rest counts as lost; ``patience``: most seconds for any such wait and for a recovery."""

    faults: tuple[Fault, ...]
    senders: int = 4
    rate: float = 40.0
    window: int = 40
    archive: bool = True
    calm: float = 4.0
    patience: float = 90.0
    seed: int = 1


def single(kills: int, action: Action = "kill") -> tuple[Fault, ...]:
    """``kills`` blows to the only server."""
    return tuple(Fault(0, action) for _ in range(kills))


def federated(kills: int, down: float = 60.0, frozen: float = 15.0) -> tuple[Fault, ...]:
    """Each side is hit ``kills`` times, in turns; the second is once away for ``down`` seconds, and the first is once
    frozen for ``frozen`` seconds before it is killed."""
    faults = [Fault(turn % 2) for turn in range(2 * kills)]
    faults[kills - kills % 2] = Fault(0, "freeze", frozen)
    faults[kills // 2 * 2 - 1] = Fault(1, "kill", down)
    return tuple(faults)


def account_names(senders: int) -> list[str]:
    """The accounts that a storm needs on each server."""
    return [f"sender{number}" for number in range(senders)] + list(RECEIVERS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a storm showed: the verdict, seconds of each orderly stop, how streams ended, resumptions."""

    verdict: Verdict
    stops: tuple[float, ...]
    conditions: Counter[str]
    resumed: int
    resume_failed: int

    def report(self) -> str:
        """All numbers as text."""
        ends = ", ".join(f"{name} {count}" for name, count in self.conditions.most_common())
        lines = [
            self.verdict.report(),
            f"resumed {self.resumed}, resume refused {self.resume_failed}; streams ended: {ends or 'none'}",
        ]
        if self.stops:
            lines.append(f"orderly stops {len(self.stops)}: longest {max(self.stops):.2f} s")
        return "\n".join(lines)


class Storm:
    """One run of ``plan`` against ``servers`` (one, or two that federate), which are not started yet."""

    def __init__(self, servers: Sequence[Server], plan: Plan, say: Callable[[str], None] = lambda _: None) -> None:
        self._servers = servers
        self._plan = plan
        self._say = say
        self._random = random.Random(plan.seed)
        self._ledger = Ledger()
        self._ids: dict[str, Key] = {}
        self._acked = [asyncio.Event() for _ in servers]
        self._moved = asyncio.Event()
        self._ending = asyncio.Event()
        self._stops: list[float] = []
        self._senders: list[ManagedClient] = []
        self._receivers: dict[str, list[ManagedClient]] = {kind: [] for kind in RECEIVERS}
        for side, server in enumerate(servers):
            for account in server.accounts:
                self._enlist(side, server, account)

    def _enlist(self, side: int, server: Server, account: Account) -> None:
        if account.local in RECEIVERS:
            observer = Observer(
                message=self._receive(account.jid),
                confirmed=self._ledger.confirmed,
                covered=partial(self._ledger.covered, account.jid),
            )
            silent = account.local == "silent"
            client = ManagedClient(server.endpoint, account, observer, acks=not silent)
            self._receivers[account.local].append(client)
        else:
            observer = Observer(message=self._bounce, acknowledged=self._acknowledge(side))
            self._senders.append(ManagedClient(server.endpoint, account, observer, presence=False))

    def _receive(self, recipient: str) -> Callable[[Element], Key | None]:
        def receive(message: Element) -> Key | None:
            key = Key.of_body(message.findtext(f"{{{ns.CLIENT}}}body") or "")
            if key is None or message.get("type") == "error":
                return None
            ids = [
                found.get("id")
                for found in message.iterfind(f"{{{ns.STANZA_ID}}}stanza-id")
                if found.get("by") == recipient
            ]
            self._ledger.received(key, message.get("from", "").partition("/")[0], recipient, ids[0] if ids else None)
            self._moved.set()
            return key

        return receive

    def _bounce(self, message: Element) -> Key | None:
        key = self._ids.get(message.get("id", ""))
        if key is not None and message.get("type") == "error":
            self._ledger.bounced(key)
        return None

    def _acknowledge(self, side: int) -> Callable[[Key], None]:
        def acknowledge(key: Key) -> None:
            self._ledger.acknowledged(key)
            self._acked[side].set()
            self._moved.set()

        return acknowledge

    def _live(self) -> Iterator[ManagedClient]:
        for kind in ("online", "flapping", "silent"):
            yield from self._receivers[kind]

    async def run(self) -> Outcome:
        """Start the servers, blow, drain, read archives, judge; the servers run when it returns."""
        await asyncio.gather(*(server.start() for server in self._servers))
        clients = [*self._senders, *self._live()]
        async with _crew() as crew:
            for client in clients:
                crew.append(asyncio.create_task(client.run()))
            async with asyncio.timeout(self._plan.patience):
                await asyncio.gather(*(client.online.wait() for client in clients))
            flapping = [asyncio.create_task(self._flap(client)) for client in self._receivers["flapping"]]
            sending = [asyncio.create_task(self._send(client)) for client in self._senders]
            crew += flapping + sending
            await self._blow(sending)
            await self._drain(flapping, sending)
            for client in self._receivers["offline"]:
                crew.append(asyncio.create_task(client.run()))
            await self._settle([client.account.jid for client in self._receivers["offline"]])
            if self._plan.archive:
                await self._read_archives()
        return self._judge()

    async def _blow(self, sending: Sequence[asyncio.Task[None]]) -> None:
        for number, fault in enumerate(self._plan.faults, 1):
            await asyncio.wait(sending, timeout=self._random.uniform(0.5, 1.5), return_when="FIRST_EXCEPTION")
            for task in sending:
                if task.done():
                    task.result()
            await self._strike(fault)
            self._say(f"{number}/{len(self._plan.faults)} {fault}: {self._ledger.acknowledgements} acknowledged")

    async def _strike(self, fault: Fault) -> None:
        server = self._servers[fault.side]
        if fault.action == "wait":
            await asyncio.sleep(fault.seconds)
            return
        if fault.action == "term":
            self._stops.append(await server.stop())
        elif fault.action == "freeze":
            server.freeze()
            await asyncio.sleep(fault.seconds)
            await server.kill9()
        else:
            await server.kill9()
        if fault.action != "term":
            self._ledger.killed(account.jid for account in server.accounts)
        self._acked[fault.side].clear()
        if fault.action != "freeze" and fault.seconds:
            await asyncio.sleep(fault.seconds)
        begun = time.monotonic()
        await server.start()
        try:
            async with asyncio.timeout(self._plan.patience):
                await self._acked[fault.side].wait()
        except TimeoutError as error:
            raise RuntimeError(f"no acknowledgement after {fault}:\n{server.log_tail()}") from error
        self._ledger.recovered(time.monotonic() - begun)

    async def _send(self, client: ManagedClient) -> None:
        targets = [receiver.account.jid for kind in RECEIVERS for receiver in self._receivers[kind]]
        sender = client.account.jid
        for turn in itertools.count():
            while client.waiting >= self._plan.window:
                await self._urge(client)
            if self._ending.is_set():
                break
            key = Key(sender, targets[turn % len(targets)], turn // len(targets) + 1)
            identity = f"{key.number}/{sender}/{key.recipient}"
            self._ids[identity] = key
            self._ledger.sent(key)
            client.send(
                f"<message type='chat' to='{key.recipient}' id='{identity}'><body>{key.body()}</body>"
                f"<origin-id xmlns='{ns.STANZA_ID}' id='{identity}'/></message>",
                key,
            )
            if turn % 5 == 4:
                client.ask()
            await asyncio.sleep(self._random.uniform(0.5, 1.5) / self._plan.rate)
        while client.waiting:
            await self._urge(client)

    async def _urge(self, client: ManagedClient) -> None:
        client.moved.clear()
        client.ask()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.moved.wait()

    async def _flap(self, client: ManagedClient) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.7, 1.3))
            client.cut(away=self._random.uniform(0.0, 0.6))

    async def _drain(self, flapping: Sequence[asyncio.Task[None]], sending: Sequence[asyncio.Task[None]]) -> None:
        self._ending.set()
        async with asyncio.timeout(self._plan.patience):
            await asyncio.gather(*sending)
        for task in flapping:
            task.cancel()
        await asyncio.gather(*flapping, return_exceptions=True)
        await self._settle([client.account.jid for client in self._live()])

    async def _settle(self, recipients: Sequence[str]) -> None:
        """Until all acknowledged messages to them arrived live, or nothing moved for ``calm`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.patience):
                while self._ledger.unreceived(recipients):
                    self._moved.clear()
                    async with asyncio.timeout(self._plan.calm):
                        await self._moved.wait()

    async def _read_archives(self) -> None:
        """The archives of everybody; in a federated storm they may lag behind, but `_settle` has waited for that."""
        for client in [*self._senders, *self._live(), *self._receivers["offline"]]:
            async with asyncio.timeout(self._plan.patience):
                await client.online.wait()
                self._ledger.archived(client.account.jid, await client.archive())

    def _judge(self) -> Outcome:
        everybody = [*self._senders, *self._live(), *self._receivers["offline"]]
        conditions: Counter[str] = Counter()
        for client in everybody:
            conditions.update(client.counters.conditions)
        return Outcome(
            verdict=self._ledger.verdict(archive=self._plan.archive),
            stops=tuple(self._stops),
            conditions=conditions,
            resumed=sum(client.counters.resumed for client in everybody),
            resume_failed=sum(client.counters.resume_failed for client in everybody),
        )


@contextlib.asynccontextmanager
async def _crew() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that end with the block."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _plan(options: argparse.Namespace) -> Plan:
    if options.federated:
        faults = federated(options.kills, options.down, options.frozen)
    else:
        faults = single(options.kills, options.signal)
    return Plan(
        faults,
        senders=options.senders,
        rate=options.rate,
        archive=not options.no_mam,
        calm=options.calm,
        patience=max(90.0, options.down + 60.0),
        seed=options.seed,
    )


def _servers(options: argparse.Namespace, folder: Path, postgres: Cluster | None) -> Sequence[Server]:
    authority = Authority(folder)
    names = account_names(options.senders)
    security: Security = options.security
    if options.server == "parley":
        if options.federated:
            return parley_pair(folder, authority, names, security=security)
        storage = {} if postgres is None else {"storage": {"url": postgres.url("storm")}}
        return [ParleyServer(folder, authority, names, security=security, extra=storage)]
    if options.federated:
        return prosody_pair(folder, authority, names, archive=not options.no_mam)
    return [ProsodyServer(folder, authority, names, security=security, archive=not options.no_mam)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.storm", description=__doc__)
    parser.add_argument("--server", choices=("parley", "prosody"), default="parley")
    parser.add_argument("--kills", type=int, default=20, help="blows to each server")
    parser.add_argument("--signal", choices=("kill", "term"), default="kill", help="how a single server ends")
    parser.add_argument("--federated", action="store_true", help="two servers")
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite", help="of a single Parley")
    parser.add_argument("--down", type=float, default=60.0, help="seconds one of a pair is once away")
    parser.add_argument("--frozen", type=float, default=15.0, help="seconds the other is once frozen")
    parser.add_argument("--no-mam", action="store_true", help="clients that know no archive")
    parser.add_argument("--senders", type=int, default=4, help="senders on each server")
    parser.add_argument("--rate", type=float, default=40.0, help="messages per second and sender")
    parser.add_argument("--security", choices=("none", "starttls", "direct"), default="none")
    parser.add_argument("--calm", type=float, default=6.0, help="seconds without progress that end the wait")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


async def _main(options: argparse.Namespace) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="storm") as folder,
        cluster() if options.storage == "postgres" else contextlib.nullcontext() as postgres,
    ):
        servers = _servers(options, Path(folder), postgres)
        try:
            outcome = await Storm(servers, _plan(options), say=print).run()
        finally:
            for server in servers:
                await server.kill9()
        print(outcome.report())
        failures = outcome.verdict.failures()
        print("BROKEN " + ", ".join(f"{name} {count}" for name, count in failures.items()) if failures else "KEPT")
        return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_options())))
