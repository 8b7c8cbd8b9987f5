"""`parley serve` as a process: signals, certificates, the end."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeserver.cli.certificates import Authority
from homeserver.cli.demo import HOST, Place, write_place
from tests.e2e.test_localserve import free_base

ROOT = Path(__file__).parents[2]
SECONDS = 30


class Served:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority.open(folder)
        self.place = Place("a.localhost", folder / "a", free_base())
        write_place(self.place, [], self.authority)
        command = [sys.executable, "-m", "homeserver", "serve", "--config", str(self.place.config)]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self.log = folder / "log"
        self.until(lambda: "server started" in self.log.read_text())

    def until(self, condition: object) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def shown(self) -> bytes:
        """The certificate on the https port."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate_file))
        with (
            socket.create_connection((HOST, self.place.https), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="a.localhost") as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    def renew(self) -> None:
        files = self.place.folder / "certificate.pem", self.place.folder / "certificate.key"
        self.authority.issue(["a.localhost"], *files, [HOST])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait()


def test_sighup_takes_over_certificates_and_keeps_the_old_ones_when_the_new_are_broken(served: Served) -> None:
    first = served.shown()
    kept = socket.create_connection((HOST, served.place.xmpp), timeout=5)
    served.renew()
    served.process.send_signal(signal.SIGHUP)
    served.until(lambda: served.shown() != first)
    second = served.shown()
    (served.place.folder / "certificate.pem").write_text("half a certificate")
    served.process.send_signal(signal.SIGHUP)
    served.until(lambda: "no PEM certificate in it" in served.log.read_text())
    assert served.shown() == second
    served.place.config.write_text("domains = [")
    served.process.send_signal(signal.SIGHUP)
    served.until(lambda: "configuration not taken over" in served.log.read_text())
    assert served.shown() == second
    kept.sendall(
        b"<?xml version='1.0'?><stream:stream to='a.localhost' version='1.0' xmlns='jabber:client' "
        b"xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    assert b"stream" in kept.recv(1000)
    kept.close()


def test_sigterm_ends_it_in_time_and_without_faults(served: Served) -> None:
    idle = socket.create_connection((HOST, served.place.xmpp), timeout=5)
    began = time.monotonic()
    served.process.terminate()
    assert served.process.wait(10) == 0
    assert time.monotonic() - began < 10
    log = served.log.read_text()
    assert "server stopped" in log
    assert "Traceback" not in log
    assert "part" not in log.split("server stopping")[1].split("parts=")[1].partition("\n")[2]
    idle.close()


def test_a_second_server_on_the_same_data_is_refused_in_one_line(served: Served) -> None:
    command = [sys.executable, "-m", "homeserver", "serve", "--config", str(served.place.config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 78
    assert "Traceback" not in done.stderr
