"""What the storms need from a server, whichever it is, and one process of it."""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Security = Literal["none", "starttls", "direct"]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A bare JID and its password."""

    jid: str
    password: str

    @property
    def local(self) -> str:
        """The part before the @."""
        return self.jid.partition("@")[0]

    @property
    def domain(self) -> str:
        """The part after the @."""
        return self.jid.partition("@")[2]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where XMPP clients connect: address, how TLS starts, and the authority that vouches for the certificate."""

    host: str
    port: int
    domain: str
    security: Security = "none"
    ca_file: Path | None = None


class Server(Protocol):
    """A chat server that tests start, hurt and ask.

    ``endpoint`` is where clients log in; ``accounts`` exist from the first start on. ``kill9`` and ``stop`` return when
    the process is gone; ``stop`` gives the seconds it took. ``start`` returns when logins are accepted.
    """

    endpoint: Endpoint
    accounts: tuple[Account, ...]

    async def start(self) -> None: ...
    async def kill9(self) -> None: ...
    async def stop(self) -> float: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def log_tail(self, lines: int = 40) -> str: ...


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on. Another process may take it before it is used; rare on loopback."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def die_with_parent() -> None:
    """Before exec: the kernel kills this process when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """One operating system process: started, killed, stopped, frozen; its output goes to a file."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self._argv = list(argv)
        self._env = {**os.environ, **(env or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; RuntimeError if it does not run."""
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start it; the log of earlier runs is kept."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("the process already runs")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._env,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, so that no server outlives its test run
            )

    async def kill9(self) -> None:
        """SIGKILL, also when it is frozen or gone; returns when the kernel has taken it away."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait, 10)

    async def terminate(self, deadline: float = 30.0) -> float:
        """SIGTERM; seconds until the end. After ``deadline`` seconds it is killed and TimeoutError raised."""
        if self._process is None or self._process.poll() is not None:
            return 0.0
        begun = time.monotonic()
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, deadline)
        except subprocess.TimeoutExpired as error:
            await self.kill9()
            raise TimeoutError(f"still there {deadline} s after SIGTERM") from error
        return time.monotonic() - begun

    def freeze(self) -> None:
        """SIGSTOP: sockets stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its output."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    async def listening(self, host: str, port: int, deadline: float = 20.0) -> None:
        """Wait until the port accepts connections; RuntimeError with the log if the process ends or time runs out."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if self.returncode is not None:
                raise RuntimeError(f"ended with {self.returncode}:\n{self.log_tail()}")
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
        raise RuntimeError(f"port {port} did not open in {deadline} s:\n{self.log_tail()}")
