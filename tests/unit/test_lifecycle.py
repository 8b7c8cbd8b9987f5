"""Order, time limits and signals of the process, with real signals and a real notification socket."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from config.load import load_settings
from config.settings import Settings
from homeserver.lifecycle import Lifecycle, Reloader, Startable, Supervisor, Sweeper, run_process, tune_interpreter

QUIET = Supervisor({})
CONFIG = "domains = ['a.example']\n[[listen]]\nkind = 'https'\nport = 1\nhost = '::1'\ntls = 'optional'\n"


class Part:
    def __init__(self, name: str, diary: list[str], *, broken: bool = False, slow: bool = False) -> None:
        self.name, self.diary, self.broken, self.slow = name, diary, broken, slow

    async def start(self) -> None:
        self.diary.append(f"start {self.name}")
        if self.broken:
            raise OSError("cannot start")

    async def stop(self, deadline: float) -> None:
        self.diary.append(f"stop {self.name}")
        if self.broken:
            raise OSError("cannot stop")
        if self.slow:
            await asyncio.Event().wait()
        assert deadline > asyncio.get_running_loop().time()


def builder(diary: list[str], parts: Sequence[Startable]) -> Callable[[AsyncExitStack], object]:
    @asynccontextmanager
    async def database() -> AsyncIterator[None]:
        diary.append("open database")
        try:
            yield
        finally:
            diary.append("close database")

    async def build(stack: AsyncExitStack) -> Sequence[Startable]:
        await stack.enter_async_context(database())
        return parts

    return build


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    diary: list[str] = []
    lifecycle = Lifecycle(QUIET)
    running = asyncio.create_task(lifecycle.run(builder(diary, [Part("a", diary), Part("b", diary)])))
    await until(lambda: lifecycle.is_ready)
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert diary == ["open database", "start a", "start b", "stop b", "stop a", "close database"]
    assert not lifecycle.is_ready


async def test_a_failed_start_gives_back_what_was_taken() -> None:
    diary: list[str] = []
    parts = [Part("a", diary), Part("b", diary, broken=True), Part("c", diary)]
    with pytest.raises(OSError, match="cannot start"):
        await Lifecycle(QUIET).run(builder(diary, parts))
    assert diary == ["open database", "start a", "start b", "stop b", "stop a", "close database"]


async def test_a_late_part_is_cut_off_and_the_others_still_stop() -> None:
    diary: list[str] = []
    lifecycle = Lifecycle(QUIET, stop_seconds=0.05)
    parts = [Part("a", diary), Part("b", diary, slow=True), Part("c", diary, slow=True)]
    running = asyncio.create_task(lifecycle.run(builder(diary, parts)))
    await until(lambda: lifecycle.is_ready)
    began = asyncio.get_running_loop().time()
    lifecycle.stop()
    await running
    assert asyncio.get_running_loop().time() - began < 2
    assert diary[-4:] == ["stop c", "stop b", "stop a", "close database"]


async def test_a_signal_during_the_start_stops_at_once() -> None:
    diary: list[str] = []
    entered = asyncio.Event()

    class Stuck(Part):
        async def start(self) -> None:
            entered.set()
            await asyncio.Event().wait()

    lifecycle = Lifecycle(QUIET)
    running = asyncio.create_task(lifecycle.run(builder(diary, [Part("a", diary), Stuck("s", diary)])))
    await entered.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await running
    assert diary == ["open database", "start a", "stop s", "stop a", "close database"]


async def test_a_part_that_cannot_go_on_ends_the_process_with_its_error() -> None:
    diary: list[str] = []
    lifecycle = Lifecycle(QUIET)
    running = asyncio.create_task(lifecycle.run(builder(diary, [Part("a", diary)])))
    await until(lambda: lifecycle.is_ready)
    lifecycle.fail(OSError("disk gone"))
    with pytest.raises(OSError, match="disk gone"):
        await running
    assert diary[-2:] == ["stop a", "close database"]


async def test_sighup_runs_every_callback_and_a_failing_one_harms_nobody() -> None:
    lifecycle = Lifecycle(QUIET)
    calls: list[str] = []

    async def broken() -> None:
        calls.append("broken")
        raise ValueError("no")

    async def fine() -> None:
        calls.append("fine")

    lifecycle.on_reload(broken)
    lifecycle.on_reload(fine)
    running = asyncio.create_task(lifecycle.run(builder([], [])))
    await until(lambda: lifecycle.is_ready)
    for round_number in (1, 2):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(calls) == 2 * round_number)  # noqa: B023
    assert lifecycle.is_ready
    lifecycle.stop()
    await running
    assert calls == ["broken", "fine"] * 2


async def test_the_service_manager_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.setblocking(False)
        supervisor = Supervisor({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())})
        assert supervisor.watchdog_seconds == 0.02
        loop = asyncio.get_running_loop()
        lifecycle = Lifecycle(supervisor)
        running = asyncio.create_task(lifecycle.run(builder([], [])))
        assert await loop.sock_recv(manager, 100) == b"READY=1"
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
        lifecycle.reload()
        messages = []
        while b"READY=1" not in messages:
            messages.append(await loop.sock_recv(manager, 100))
        assert any(message.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for message in messages)
        lifecycle.stop()
        while await loop.sock_recv(manager, 100) != b"STOPPING=1":
            pass
        await running


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    assert Supervisor({"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0


async def test_new_settings_are_handed_out_and_broken_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "parley.toml"
    path.write_text(CONFIG)
    taken: list[Settings] = []
    reloader = Reloader(path, load_settings(path))

    def broken(settings: Settings) -> None:
        raise ValueError("no")

    reloader.subscribe(broken)
    reloader.subscribe(taken.append)
    path.write_text(CONFIG + "[log]\nlevel = 'debug'\n")
    await reloader.reload()
    assert [settings.log.level for settings in taken] == ["debug"]
    path.write_text(CONFIG + "[log]\nlevel = 'half")
    await reloader.reload()
    assert len(taken) == 1


def test_the_process_runs_on_a_loop_of_its_own() -> None:
    seen: list[str] = []

    async def main() -> None:
        seen.append(type(asyncio.get_running_loop()).__module__)

    run_process(main)
    assert seen == ["uvloop"]


def test_the_collector_leaves_alone_what_the_start_made() -> None:
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    try:
        tune_interpreter()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (50_000, 20, 100)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)


async def test_the_phase_is_what_the_server_does() -> None:
    lifecycle = Lifecycle(QUIET)
    seen: list[tuple[str, bool]] = []

    class Watching:
        async def start(self) -> None:
            seen.append((lifecycle.phase, lifecycle.is_ready))

        async def stop(self, deadline: float) -> None:
            seen.append((lifecycle.phase, lifecycle.is_ready))

    running = asyncio.create_task(lifecycle.run(builder([], [Watching()])))  # type: ignore[arg-type]
    await until(lambda: lifecycle.is_ready)
    seen.append((lifecycle.phase, lifecycle.is_ready))
    lifecycle.stop()
    await running
    assert seen == [("starting", False), ("running", True), ("stopping", False)]


async def test_housekeeping_goes_on_when_one_chore_fails() -> None:
    done: list[str] = []

    async def broken() -> None:
        done.append("broken")
        raise OSError("no")

    async def fine() -> None:
        done.append("fine")

    sweeper = Sweeper(broken, fine, pause=0.001)
    await sweeper.start()
    async with asyncio.timeout(5):
        while len(done) < 4:
            await asyncio.sleep(0.001)
    await sweeper.stop(0)
    assert done[:4] == ["broken", "fine", "broken", "fine"]
