"""Life of the server process: start in order, stop in reverse within a time limit, signals, messages to systemd.

`run_process` owns the event loop. `Lifecycle` owns the parts: it builds them, starts them in the order of the list, waits,
and stops them in reverse. SIGTERM and SIGINT stop; SIGHUP runs the reload callbacks; a part that cannot go on calls `fail`.
A part is given the moment by which it should be done; one that is late is cut off, so that the rest can still be saved.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import aiofastnet
import structlog

from config.load import SettingsError, compare, load_settings
from config.settings import Settings

try:
    import uvloop
except ImportError:  # not made for every platform; the loop of the standard library serves as well
    uvloop = None  # type: ignore[assignment]

log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 8.0
"""Time for all parts together; what is left of ten seconds is for closing the database."""

STARTING: Final = "starting"
RUNNING: Final = "running"
STOPPING: Final = "stopping"

SWEEP_SECONDS: Final = 60.0


class Startable(Protocol):
    """A part of the server that runs between `start` and `stop`."""

    async def start(self) -> None:
        """Begins to work; raises when it cannot."""

    async def stop(self, deadline: float) -> None:
        """Ends by `deadline`, a moment of `loop.time()`: tells its peers, finishes what it accepted, lets go."""


Build = Callable[[AsyncExitStack], Awaitable[Sequence[Startable]]]


class Supervisor:
    """Messages to the service manager (sd_notify(3)); silent without one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        interval = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(interval) / 1_000_000 if interval.isdigit() and is_ours else 0.0

    def ready(self) -> None:
        """All parts run, or a reload has ended."""
        self._send("READY=1")

    def reloading(self, monotonic_microseconds: int) -> None:
        """A reload begins."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_microseconds}")

    def stopping(self) -> None:
        """The parts are being stopped."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The event loop turns."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(message.encode(), address)
            except OSError as error:
                log.warning("service manager not reached", error=str(error))


class Lifecycle:
    """Runs the parts of one server. ``phase`` is what it does, in words; `settle` is called once after the start."""

    def __init__(
        self,
        supervisor: Supervisor,
        stop_seconds: float = STOP_SECONDS,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._supervisor = supervisor
        self._settle = settle
        self._stop_seconds = stop_seconds
        self._stop_wanted = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._reloads: list[Callable[[], Awaitable[None]]] = []
        self._failure: BaseException | None = None
        self.phase = STARTING

    @property
    def is_ready(self) -> bool:
        """Whether all parts run."""
        return self.phase == RUNNING

    def on_reload(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Adds a callback for SIGHUP; callbacks run in the order they were added, a failing one does not stop the others."""
        self._reloads.append(callback)

    def stop(self) -> None:
        """Asks for the orderly end of `run`."""
        self._stop_wanted.set()

    def reload(self) -> None:
        """Asks for a reload; several requests during one reload are one more reload."""
        self._reload_wanted.set()

    def fail(self, error: BaseException) -> None:
        """A part cannot go on: stop everything; `run` raises `error` afterwards."""
        if self._failure is None:
            log.error("part failed, stopping", error=repr(error))
            self._failure = error
        self._stop_wanted.set()

    async def run(self, build: Build) -> None:
        """Builds, starts, waits for the end, stops. Raises what a start raised, or what `fail` was given."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            async with AsyncExitStack() as stack:
                started: list[Startable] = []
                try:
                    if await self._unless_stopped(self._start(build, stack, started)):
                        self._supervisor.ready()
                        await self._attend()
                finally:
                    self.phase = STOPPING
                    self._supervisor.stopping()
                    await self._stop(started)
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
        if self._failure is not None:
            raise self._failure

    async def _start(self, build: Build, stack: AsyncExitStack, started: list[Startable]) -> None:
        for part in await build(stack):
            # Noted before it starts: a part that fails half-way must give back what it took.
            started.append(part)
            await part.start()
        self._settle()
        self.phase = RUNNING
        log.info("server started")

    async def _unless_stopped(self, start: Coroutine[Any, Any, None]) -> bool:
        """Whether the start ended; False when a stop was asked for before."""
        starting = asyncio.create_task(start)
        stopping = asyncio.create_task(self._stop_wanted.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.wait({starting})
        return False

    async def _attend(self) -> None:
        """Until a stop is asked for: reloads, and signs of life."""
        beat = self._supervisor.watchdog_seconds / 2 or None
        while not self._stop_wanted.is_set():
            waits = [asyncio.create_task(self._stop_wanted.wait()), asyncio.create_task(self._reload_wanted.wait())]
            await asyncio.wait(waits, timeout=beat, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if beat:
                self._supervisor.alive()
            if self._reload_wanted.is_set() and not self._stop_wanted.is_set():
                self._reload_wanted.clear()
                await self._reload()

    async def _reload(self) -> None:
        self._supervisor.reloading(int(asyncio.get_running_loop().time() * 1_000_000))
        for callback in self._reloads:
            try:
                await callback()
            except Exception as error:  # noqa: BLE001 - what runs goes on with what it has; the operator reads why
                log.error("reload failed, old state kept", error=str(error) or repr(error))
        self._supervisor.ready()

    async def _stop(self, started: list[Startable]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._stop_seconds
        log.info("server stopping", parts=len(started))
        for part in reversed(started):
            # A late part does not eat the time of the others: each has at least a fair rest.
            limit = max(deadline, loop.time() + 0.1)
            try:
                async with asyncio.timeout_at(limit):
                    await part.stop(limit)
            except TimeoutError:
                log.error("part did not stop in time", part=type(part).__name__)
            except Exception as error:  # noqa: BLE001 - the other parts must be stopped as well
                log.error("part failed to stop", part=type(part).__name__, error=repr(error))
        log.info("server stopped")


class Sweeper:
    """Housekeeping that runs now and then: ``chores`` forget what has expired."""

    def __init__(self, *chores: Callable[[], Awaitable[object]], pause: float = SWEEP_SECONDS) -> None:
        self._chores = chores
        self._pause = pause
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins; the first round comes after the first pause."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, deadline: float) -> None:
        """Ends, in the middle of a round too."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            for chore in self._chores:
                try:
                    await chore()
                except Exception:
                    log.exception("housekeeping failed")


class Reloader:
    """Reads the configuration file again and hands it out; a broken file changes nothing."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._takers: list[Callable[[Settings], None]] = []

    def subscribe(self, taker: Callable[[Settings], None]) -> None:
        """Adds a receiver of new settings; it picks its section and takes over the keys marked reloadable."""
        self._takers.append(taker)

    async def reload(self) -> None:
        """The callback for `Lifecycle.on_reload`. Receivers are called even without a change: files may have changed."""
        try:
            settings = await asyncio.to_thread(load_settings, self._path)
        except SettingsError as error:
            for line in str(error).splitlines():
                log.error("configuration not taken over; correct it and send SIGHUP again", problem=line)
            return
        changes = compare(self._settings, settings)
        self._settings = settings
        for taker in self._takers:
            try:
                taker(settings)
            except Exception as error:  # noqa: BLE001 - one receiver must not keep the others from their settings
                log.error("reload failed, old state kept", error=str(error) or repr(error))
        log.info("configuration read again", applied=list(changes.applied))
        if changes.restart:
            log.warning("these changes need a restart", settings=list(changes.restart))


def pause_collector() -> None:
    """Before the start: it makes many objects that stay and hardly any garbage."""
    gc.disable()


def tune_interpreter() -> None:
    """After the start: what lives now lives for ever, so the collector need not look at it again; threads that commit
    get their turn soon."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()
    sys.setswitchinterval(0.0005)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it exists, with TLS by aiofastnet; accepted connections too, which aiofastnet does not patch itself."""
    make = asyncio.new_event_loop if uvloop is None else uvloop.new_event_loop
    loop = aiofastnet.loop_factory(make)()
    loop.connect_accepted_socket = partial(aiofastnet.connect_accepted_socket, loop)  # type: ignore[method-assign]
    return loop


def run_process(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `main` on a new event loop, to its end."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
