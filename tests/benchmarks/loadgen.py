"""The load generator: a process of its own, one job as JSON on standard input, its figures as JSON on standard output.

    python -m tests.benchmarks.loadgen < job.json

Jobs (`kind`): "closed", "open", "idle", "fanout", "arrivals", "paging". `accounts` is a list of objects with the fields of `wire.Account`,
`pids` the server processes whose CPU and memory are read at the edges of the measured stretch.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks import arrivals, fanout, logins
from tests.benchmarks.paging import fill, measure_pages
from tests.benchmarks.pairs import Pairs, try_out
from tests.benchmarks.processes import memory_kib
from tests.benchmarks.wire import Account, Connection, insecure_tls

Job = dict[str, Any]
_LOGINS_AT_ONCE = 8


def _log_in(job: Job) -> list[Connection]:
    """Log every account of the job in, a few at a time: one alone would mostly wait for answers."""
    context = insecure_tls()

    def log_in(fields: Job) -> Connection:
        connection = Connection(Account(**fields), context)
        connection.login()
        return connection

    with ThreadPoolExecutor(_LOGINS_AT_ONCE) as threads:
        return list(threads.map(log_in, job["accounts"]))


def _pairs(job: Job) -> Pairs:
    """Accounts 0 and 1 are the first pair, 2 and 3 the second, and so on."""
    connections = _log_in(job)
    pairs = list(zip(connections[::2], connections[1::2], strict=True))
    try_out(pairs)
    return Pairs(pairs)


def _closed(job: Job) -> Job:
    return _pairs(job).closed_loop(job["outstanding"], job["warm_up"], job["seconds"], job["pids"]).as_json()


def _open(job: Job) -> Job:
    return _pairs(job).open_loop(job["rate"], job["warm_up"], job["seconds"], job["pids"]).as_json()


def _idle(job: Job) -> Job:
    """Memory per connection: the growth from the first `base` logins to all of them, after a pause each."""
    every = job["accounts"]
    publishers = [Account(**fields) for fields in job.get("publishers", ())]
    if publishers:
        arrivals.publish(publishers)

    def come(accounts: list[Job]) -> list[Connection]:
        connections = _log_in({"accounts": accounts})
        for connection in connections if publishers else ():
            connection.move_in(arrivals.CAPS, len(publishers))
        return connections

    kept = come(every[: job["base"]])
    time.sleep(job["settle"])
    before = memory_kib(job["pids"])
    kept += come(every[job["base"] :])
    time.sleep(job["settle"])
    grown = memory_kib(job["pids"]) - before
    count = len(every) - job["base"]
    for connection in kept:
        connection.close()
    return {"connections": count, "kib_per_connection": grown / count, "base_kib": before}


def _fanout(job: Job) -> Job:
    accounts = [Account(**fields) for fields in job["accounts"]]
    return fanout.measure(accounts, job["what"], job["warm_up"], job["seconds"], job["pids"])


def _paging(job: Job) -> Job:
    """Pages at each size of `sizes`; `key` names rows that are there already, otherwise the archive is filled here."""
    sender, reader = _log_in(job)
    ids: list[str] = []
    key: str | None = job.get("key")
    stages = []
    for size in job["sizes"]:
        filled = time.perf_counter()
        id_at: Callable[[int], str] = ids.__getitem__
        if key is None:
            ids += fill(sender, reader, size - len(ids), len(ids))
        else:
            id_at = key.__mod__
        filled = time.perf_counter() - filled
        time.sleep(job["settle"])
        stage = measure_pages(reader, id_at, rows=size, pages=job["pages"], seconds=job["seconds"], pids=job["pids"])
        stages.append({**stage, "fill_seconds": filled})
    return {"stages": stages}


_KINDS: dict[str, Callable[[Job], Job]] = {
    "closed": _closed,
    "open": _open,
    "idle": _idle,
    "fanout": _fanout,
    "arrivals": arrivals.run,
    "paging": _paging,
    "logins": logins.run,
}


def main() -> None:
    """Run the job on standard input."""
    job = json.load(sys.stdin)
    json.dump(_KINDS[job["kind"]](job), sys.stdout)


if __name__ == "__main__":
    main()
