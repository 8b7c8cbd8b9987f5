"""The workloads: each starts fresh servers of a rig, runs one generator against them and returns its figures."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import uploads
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.servers import Rig, ServerFailure
from tests.benchmarks.wire import Account, Connection, LoginError

_ROOT = Path(__file__).resolve().parents[2]
_GENERATOR_TIMEOUT = 300.0

Figures = dict[str, float]
RigKind = type[Rig]


@dataclass(frozen=True)
class Scale:
    """How large a run is. Times in seconds."""

    pairs: int = 100
    outstanding: int = 8
    rate: float = 500.0
    warm_up: float = 1.5
    seconds: float = 8.0
    idle_base: int = 100
    idle_count: int = 500
    settle: float = 1.5
    contacts: int = 500
    online: int = 200
    subscribers: int = 100
    crowd: int = 100
    crowd_contacts: int = 200
    publishers: int = 20
    arrival_rate: float = 150.0
    arrival_seconds: float = 6.0
    at_once: int = 1000
    archive_sizes: tuple[int, ...] = (10_000, 200_000)
    pages: int = 200
    page_seconds: float = 8.0
    upload_bytes: int = 1024**3
    login_rate: float = 150.0
    login_seconds: float = 6.0
    herd: int = 1000


QUICK = Scale(
    warm_up=0.5,
    seconds=2.0,
    idle_count=200,
    settle=0.5,
    crowd=20,
    arrival_rate=30.0,
    arrival_seconds=2.0,
    at_once=40,
    archive_sizes=(1_000, 10_000),
    pages=40,
    upload_bytes=64 * 1024**2,
    login_rate=30.0,
    login_seconds=1.0,
    herd=40,
)


class GeneratorFailure(Exception):
    """The generator ended with an error; the text is the end of what it said."""


def _generate(kind: str, rig: Rig, accounts: Sequence[Account], **job: Any) -> dict[str, Any]:
    """Run one job in a generator process of its own and return its figures."""
    job |= {"kind": kind, "pids": rig.pids, "accounts": [asdict(account) for account in accounts]}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.loadgen"],
        input=json.dumps(job).encode(),
        capture_output=True,
        cwd=_ROOT,
        timeout=_GENERATOR_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise GeneratorFailure(f"{done.stderr.decode(errors='replace')[-1500:]}\n{_logs(rig)}")
    figures: dict[str, Any] = json.loads(done.stdout)
    if figures.get("messages") == 0:
        raise GeneratorFailure(f"not one message arrived in the measured stretch\n{_logs(rig)}")
    return figures


def _logs(rig: Rig) -> str:
    return "\n".join(server.log_tail() for server in rig.servers)


def _message_figures(measured: dict[str, float]) -> Figures:
    """Turn what the generator measured into what is reported."""
    thousands = measured["messages"] / 1000
    return {
        "cpu_s_per_1000": measured["server_cpu"] / thousands,
        "messages_per_s": measured["messages"] / measured["seconds"],
        "p50_ms": measured["p50_ms"],
        "p99_ms": measured["p99_ms"],
        "lost": measured["lost"],
        "generator_share": measured["generator_cpu"] / measured["seconds"],
        "generator_us": 1e6 * measured["generator_cpu"] / measured["messages"],
    }


def closed(kind: RigKind, scale: Scale) -> Figures:
    """1:1 chat, closed loop: every pair keeps its messages under way, archive on, to bare JIDs."""
    with tempfile.TemporaryDirectory() as folder, kind(Path(folder), 1, 2 * scale.pairs) as rig:
        accounts = [rig.account(number) for number in range(2 * scale.pairs)]
        return _message_figures(
            _generate(
                "closed",
                rig,
                accounts,
                outstanding=scale.outstanding,
                warm_up=scale.warm_up,
                seconds=scale.seconds,
            )
        )


def open_loop(kind: RigKind, scale: Scale) -> Figures:
    """1:1 chat at a fixed rate over the same pairs."""
    with tempfile.TemporaryDirectory() as folder, kind(Path(folder), 1, 2 * scale.pairs) as rig:
        accounts = [rig.account(number) for number in range(2 * scale.pairs)]
        measured = _generate("open", rig, accounts, rate=scale.rate, warm_up=scale.warm_up, seconds=scale.seconds)
        return {**_message_figures(measured), "late_ms": measured["late_ms"]}


def federating(kind: RigKind, scale: Scale) -> Figures:
    """The closed loop between two servers: half of the pairs send one way, half the other; CPU of both servers."""
    with tempfile.TemporaryDirectory() as folder, kind(Path(folder), 2, scale.pairs) as rig:
        accounts = []
        for number in range(scale.pairs):
            accounts += [rig.account(number, number % 2), rig.account(number, 1 - number % 2)]
        return _message_figures(
            _generate(
                "closed",
                rig,
                accounts,
                outstanding=scale.outstanding,
                warm_up=scale.warm_up,
                seconds=scale.seconds,
            )
        )


def _idle(kind: RigKind, scale: Scale, tls: bool) -> Figures:
    users = scale.idle_base + scale.idle_count
    with tempfile.TemporaryDirectory() as folder, kind(Path(folder), 1, users, tls) as rig:
        accounts = [rig.account(number) for number in range(users)]
        measured = _generate("idle", rig, accounts, base=scale.idle_base, settle=scale.settle)
        return {"kib_per_connection": measured["kib_per_connection"]}


def idle(kind: RigKind, scale: Scale) -> Figures:
    """Memory of a logged-in, available client that does nothing, plain TCP; every client is another account."""
    return _idle(kind, scale, False)


def idle_tls(kind: RigKind, scale: Scale) -> Figures:
    """The same over STARTTLS."""
    return _idle(kind, scale, True)


def _fanout(kind: RigKind, scale: Scale, what: str, contacts: int, online: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        rig = kind(Path(folder), 1, contacts + 1)
        rig.contacts = {0: range(1, contacts + 1), **dict.fromkeys(range(1, contacts + 1), (0,))}
        with rig:
            accounts = [rig.account(number) for number in range(online + 1)]
            measured = _generate("fanout", rig, accounts, what=what, warm_up=scale.warm_up, seconds=scale.seconds)
    count = measured["messages"]
    return {
        f"{what}_cpu_us": 1e6 * measured["server_cpu"] / count,
        f"{what}_round_p50_ms": measured["p50_ms"],
        "generator_share": measured["generator_cpu"] / measured["seconds"],
        f"{what}_generator_us": 1e6 * measured["generator_cpu"] / count,
    }


def presence(kind: RigKind, scale: Scale) -> Figures:
    """A change of presence told to the contacts that are online, one change after the other."""
    return _fanout(kind, scale, "presence", scale.contacts, scale.online)


def events(kind: RigKind, scale: Scale) -> Figures:
    """An item of personal eventing published again and again, told to contacts by their capabilities."""
    return _fanout(kind, scale, "event", scale.subscribers, scale.subscribers)


def arrivals(kind: RigKind, scale: Scale) -> Figures:
    """Logins with contact list, capabilities and newest items, at a fixed rate and at once, plain TCP; contacts are away."""
    first, users = scale.crowd_contacts, scale.crowd_contacts + scale.crowd + 1
    with tempfile.TemporaryDirectory() as folder:
        rig = kind(Path(folder), 1, users)
        rig.hashed = True
        rig.contacts = {
            **dict.fromkeys(range(first), range(first, users)),
            **dict.fromkeys(range(first, users), range(first)),
        }
        with rig:
            numbers = (*range(scale.publishers), *range(first, users))
            return _generate(
                "arrivals",
                rig,
                [rig.account(number) for number in numbers],
                publishers=scale.publishers,
                rate=scale.arrival_rate,
                seconds=scale.arrival_seconds,
                herd=scale.at_once,
            )


def _idle_at_home(kind: RigKind, scale: Scale, tls: bool) -> Figures:
    clients = scale.idle_base + scale.idle_count
    contacts = range(clients, clients + scale.crowd_contacts)
    with tempfile.TemporaryDirectory() as folder:
        rig = kind(Path(folder), 1, clients + scale.crowd_contacts, tls)
        publishing = contacts[: scale.publishers]
        rig.contacts = {**dict.fromkeys(range(clients), contacts), **dict.fromkeys(publishing, range(clients))}
        with rig:
            accounts = [rig.account(number) for number in range(clients)]
            publishers = [asdict(rig.account(number)) for number in publishing]
            measured = _generate(
                "idle", rig, accounts, base=scale.idle_base, settle=scale.settle, publishers=publishers
            )
    return {"kib_per_connection": measured["kib_per_connection"]}


def idle_at_home(kind: RigKind, scale: Scale) -> Figures:
    """As `idle`, of a client with stream management, copies, contact list, capabilities, newest items of contacts."""
    return _idle_at_home(kind, scale, False)


def idle_at_home_tls(kind: RigKind, scale: Scale) -> Figures:
    """The same over STARTTLS."""
    return _idle_at_home(kind, scale, True)


def paging(kind: RigKind, scale: Scale) -> Figures:
    """Archive pages of 100 from random places, in a small and in a large archive of one conversation."""
    figures: Figures = {}
    job = {"pages": scale.pages, "seconds": scale.page_seconds, "settle": scale.settle}
    with tempfile.TemporaryDirectory() as folder:
        small = kind(Path(folder) / "small", 1, 2)
        small.folder.mkdir()
        small.prepare()
        key = small.archive_key(scale.archive_sizes[0])
        sizes = list(scale.archive_sizes if key is None else scale.archive_sizes[:1])
        stages = _pages(small, job | {"sizes": sizes, "key": key})
        if key is not None:
            large = kind(Path(folder) / "large", 1, 2)
            large.folder.mkdir()
            large.prepare()
            key = large.archive_key(scale.archive_sizes[1])
            stages += _pages(large, job | {"sizes": list(scale.archive_sizes[1:]), "key": key})
    for name, stage in zip(("small", "large"), stages, strict=True):
        figures[f"page_cpu_ms_{name}"] = 1000 * stage["server_cpu"] / stage["messages"]
        figures[f"page_p50_ms_{name}"] = stage["p50_ms"]
        figures[f"page_p99_ms_{name}"] = stage["p99_ms"]
    figures["growth"] = figures["page_cpu_ms_large"] / figures["page_cpu_ms_small"]
    return figures


def _pages(rig: Rig, job: dict[str, Any]) -> list[dict[str, float]]:
    """Start a prepared rig, fetch pages as u1, stop it."""
    try:
        rig.start()
        stages: list[dict[str, float]] = _generate("paging", rig, [rig.account(0), rig.account(1)], **job)["stages"]
    finally:
        rig.stop()
    return stages


def start(kind: RigKind, scale: Scale) -> Figures:
    """From starting the process to the end of the first login, with the accounts of the other runs in place."""
    with tempfile.TemporaryDirectory() as folder:
        rig = kind(Path(folder), 1, 2 * scale.pairs)
        rig.prepare()
        try:
            begin = time.perf_counter()
            rig.servers[0].start()
            while True:
                try:
                    connection = Connection(rig.account(0))
                    connection.login()
                except (OSError, LoginError):
                    if time.perf_counter() - begin > 30:
                        raise ServerFailure(f"no login within 30 s\n{rig.servers[0].log_tail()}") from None
                    rig.servers[0].refuse_dead()
                    time.sleep(0.002)
                else:
                    break
            seconds = time.perf_counter() - begin
            cpu = cpu_seconds(rig.pids)
            connection.close()
        finally:
            rig.stop()
    return {"seconds": seconds, "start_cpu_s": cpu}


def upload(kind: RigKind, scale: Scale) -> Figures:
    """One large file over plain HTTP and over TLS; beside it a PUT of the same bytes to nginx where it is installed."""
    if kind.name != uploads.UploadRig.name:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        return uploads.measure(Path(folder), scale.upload_bytes)


def logins(kind: RigKind, scale: Scale) -> Figures:
    """Logins with everything at a fixed rate and all at once, plain TCP: their CPU, and what a neighbour waits for a ping."""
    users = 101
    with tempfile.TemporaryDirectory() as folder:
        rig = kind(Path(folder), 1, users)
        rig.hashed = True
        with rig:
            accounts = [rig.account(number) for number in range(users)]
            return _generate(
                "logins", rig, accounts, rate=scale.login_rate, seconds=scale.login_seconds, herd=scale.herd
            )


WORKLOADS: dict[str, Callable[[RigKind, Scale], Figures]] = {
    "closed": closed,
    "open": open_loop,
    "idle": idle,
    "idle-tls": idle_tls,
    "federating": federating,
    "presence": presence,
    "events": events,
    "arrivals": arrivals,
    "idle-at-home": idle_at_home,
    "idle-at-home-tls": idle_at_home_tls,
    "paging": paging,
    "start": start,
    "upload": upload,
    "logins": logins,
}
