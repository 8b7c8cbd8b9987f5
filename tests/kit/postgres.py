"""A private PostgreSQL server for tests: own data folder, loopback only, gone at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PostgresMissing(RuntimeError):
    """The server programs are not installed (package `postgresql`)."""


def programs() -> Path:
    """The folder with `initdb` and `postgres`, the newest if there are several. Raises `PostgresMissing`."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise PostgresMissing("no PostgreSQL server programs (initdb, postgres) on this machine")
    return Path(on_path).resolve().parent


class Cluster:
    """A running server. ``url(name)`` gives the URL of a database, made new if it does not exist."""

    def __init__(self, folder: Path, bin_dir: Path, port: int, user: str | None) -> None:
        self._folder = folder
        self._bin = bin_dir
        self._port = port
        self._user = user
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        self._server = subprocess.Popen(
            self._as_user(
                "postgres", "-D", str(self._folder / "data"), "-p", str(self._port), "-k", str(self._folder),
                "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=32MB", "-c", "max_connections=40",
                "-c", "synchronous_commit=on",
            ),
            stdout=(self._folder / "server.log").open("ab"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while subprocess.run(
            self._as_user("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)), check=False
        ).returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self._folder / 'server.log').read_text()}")
            time.sleep(0.05)

    def stop(self, immediate: bool = False) -> None:
        """End the server: after closing what is open, or ``immediate``ly, as a crash would."""
        if self._server is None:
            return
        data = str(self._folder / "data")
        mode = "immediate" if immediate else "fast"
        subprocess.run(self._as_user("pg_ctl", "stop", "-w", "-D", data, "-m", mode), check=True, capture_output=True)
        self._server.wait(30)
        self._server = None

    def kill(self) -> None:
        """SIGQUIT, the signal of an immediate shutdown, whatever state it is in."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(30)

    def url(self, name: str) -> str:
        """The URL of the database ``name``."""
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        return f"postgresql://parley@127.0.0.1:{self._port}/{name}"

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def sql(self, database: str, text: str) -> str:
        """What psql prints for ``text``."""
        command = self._as_user(
            "psql",
            "-X",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-p",
            str(self._port),
            "-U",
            "parley",
            "-d",
            database,
            "-c",
            text,
        )
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._bin / program), *arguments]
        if self._user is None:
            return command
        # PostgreSQL refuses to run as root.
        return ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups", *command]

    def create(self) -> None:
        """Make the data folder."""
        subprocess.run(
            self._as_user(
                "initdb", "-D", str(self._folder / "data"), "-U", "parley", "-A", "trust", "-E", "UTF8",
                "--locale=C", "--no-sync",
            ),
            check=True,
            capture_output=True,
        )  # fmt: skip


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A new server for the length of a ``with``. Raises `PostgresMissing`."""
    bin_dir = programs()
    folder = Path(tempfile.mkdtemp(prefix="parley-postgres-"))
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        found = pwd.getpwnam(user)
        os.chown(folder, found.pw_uid, found.pw_gid)
        user = str(found.pw_uid)
    server = Cluster(folder, bin_dir, _free_port(), user)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
