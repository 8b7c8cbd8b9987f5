"""Server processes under measurement: a rig makes their files in a folder of its own, starts them and stops them."""

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.benchmarks.wire import Account

PASSWORD = "correct-horse-battery"
_START_SECONDS = 15.0
_STOP_SECONDS = 15.0


class ServerFailure(Exception):
    """A server did not start, or ended by itself; the text holds the end of its log."""


@dataclass
class Server:
    """One server process for one domain, and where it listens for XMPP clients."""

    domain: str
    host: str
    port: int
    command: Sequence[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return at once. What `./parley` sets for itself must not reach another product."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "PYTHON"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=inherited | self.environment
            )

    def wait_until_listening(self) -> None:
        """Return once the client port accepts connections. Raises ServerFailure."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.refuse_dead()
            try:
                socket.create_connection((self.host, self.port), 1.0).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise ServerFailure(f"{self.domain} does not listen on {self.host}:{self.port}\n{self.log_tail()}")

    def refuse_dead(self) -> None:
        """Raise ServerFailure when the process has ended."""
        if self.process is None or self.process.poll() is not None:
            raise ServerFailure(f"the server of {self.domain} has ended\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self) -> None:
        """End the process: politely, then not."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def pid(self) -> int:
        """The process id. Raises ServerFailure when it is not running."""
        self.refuse_dead()
        assert self.process is not None
        return self.process.pid


class Rig(ABC):
    """One or several servers of one product, each with the same number of accounts `u0`, `u1`, ...

    As a context manager it makes the files and accounts, starts every server, and stops them at the end.
    """

    name: str

    def __init__(self, folder: Path, domains: int, users: int, tls: bool = False) -> None:
        """Prepare nothing yet. `tls`: clients can use STARTTLS."""
        self.folder = folder
        self.domains = domains
        self.users = users
        self.tls = tls
        self.hashed = False
        """Passwords are kept as SCRAM verifiers where the product gives a choice."""
        self.contacts: dict[int, Sequence[int]] = {}
        """Accounts by the numbers of their contacts; they see each other's presence if both are each other's contact."""
        self.servers: list[Server] = []

    @abstractmethod
    def prepare(self) -> None:
        """Write configuration and accounts and set `servers`."""

    def archive_key(self, rows: int) -> str | None:
        """Write an archive of `rows` messages for account u1 of a server that does not run, if that is the only
        practical way; return the `%d` pattern of its archive ids, or None: fill it through the server."""
        return None

    def start(self) -> None:
        """Start every server and wait until they listen."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_until_listening()

    def account(self, number: int, domain: int = 0) -> Account:
        """Return account `u<number>` of a domain."""
        server = self.servers[domain]
        tls = "starttls" if self.tls else "none"
        return Account(server.host, server.port, server.domain, f"u{number}", PASSWORD, tls)

    @property
    def pids(self) -> list[int]:
        """The ids of all server processes."""
        return [server.pid for server in self.servers]

    def stop(self) -> None:
        """Stop every server."""
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
