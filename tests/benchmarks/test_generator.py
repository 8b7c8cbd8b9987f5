"""The generator against a small XMPP server in a process of its own: it counts, times and notices what goes wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.wire import Account

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def relay(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Start the relay with the flags given as parameter; yield its port and process id."""
    flags = getattr(request, "param", [])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.relay", *flags], stdout=subprocess.PIPE, cwd=_ROOT
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def _generate(relay: tuple[int, int], users: int, **job: Any) -> subprocess.CompletedProcess[bytes]:
    port, pid = relay
    accounts = [asdict(Account("127.0.0.1", port, "relay.localhost", f"u{number}", "pw")) for number in range(users)]
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.loadgen"],
        input=json.dumps({"accounts": accounts, "pids": [pid], **job}).encode(),
        capture_output=True,
        cwd=_ROOT,
        timeout=60,
        check=False,
    )


def _figures(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr.decode()
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_closed_loop_counts_every_message_and_the_cpu_of_both_sides(relay: tuple[int, int]) -> None:
    figures = _figures(_generate(relay, 20, kind="closed", outstanding=8, warm_up=0.1, seconds=1.0))
    assert figures["messages"] > 1000
    assert figures["lost"] == 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert 0 < figures["server_cpu"] <= figures["seconds"] * (os.cpu_count() or 1)
    assert 0 < figures["generator_cpu"] <= figures["seconds"] * 1.05


def test_open_loop_keeps_its_rate(relay: tuple[int, int]) -> None:
    figures = _figures(_generate(relay, 20, kind="open", rate=200.0, warm_up=0.1, seconds=2.0))
    assert figures["messages"] == pytest.approx(400, abs=20)
    assert figures["lost"] == 0


@pytest.mark.parametrize("relay", [["--drop", "50"]], indirect=True)
def test_messages_the_server_drops_are_reported_lost(relay: tuple[int, int]) -> None:
    figures = _figures(_generate(relay, 4, kind="open", rate=200.0, warm_up=0.1, seconds=1.0))
    assert figures["lost"] >= 4


@pytest.mark.parametrize("relay", [["--bounce", "3"]], indirect=True)
def test_an_error_answer_stops_the_run(relay: tuple[int, int]) -> None:
    done = _generate(relay, 4, kind="closed", outstanding=1, warm_up=0.1, seconds=0.5)
    assert done.returncode != 0
    assert b"the server answered a sender" in done.stderr


@pytest.mark.parametrize("relay", [["--break", "2"]], indirect=True)
def test_a_message_that_is_broken_on_the_way_stops_the_run(relay: tuple[int, int]) -> None:
    done = _generate(relay, 4, kind="closed", outstanding=1, warm_up=0.1, seconds=0.5)
    assert done.returncode != 0
    assert b"arrives as broken XML" in done.stderr


def test_idle_memory_is_per_connection_after_the_base(relay: tuple[int, int]) -> None:
    figures = _figures(_generate(relay, 60, kind="idle", base=20, settle=0.1))
    assert figures["connections"] == 40
    assert 0 <= figures["kib_per_connection"] < 1000


def test_paging_fills_the_archive_and_checks_each_page(relay: tuple[int, int]) -> None:
    figures = _figures(_generate(relay, 2, kind="paging", sizes=[300, 500], pages=5, seconds=5.0, settle=0.0))
    small, large = figures["stages"]
    assert (small["rows"], large["rows"]) == (300, 500)
    assert small["messages"] == large["messages"] == 5


def test_a_change_of_presence_is_counted_where_it_arrives(relay: tuple[int, int]) -> None:
    figures = _figures(_generate(relay, 11, kind="fanout", what="presence", warm_up=0.1, seconds=0.5))
    assert figures["messages"] >= 100
    assert figures["messages"] % 10 == 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["generator_cpu"] > 0


@pytest.mark.parametrize("relay", [["--break", "1"]], indirect=True)
def test_a_change_of_presence_that_is_spoiled_stops_the_run(relay: tuple[int, int]) -> None:
    done = _generate(relay, 3, kind="fanout", what="presence", warm_up=0.1, seconds=0.5)
    assert done.returncode != 0
    assert b"a change arrives changed" in done.stderr
