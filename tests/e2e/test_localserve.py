"""`parley localserve` as a person uses it: what it prints works, and Ctrl-C leaves nothing behind."""

import contextlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "homeserver"]
START_SECONDS = 60


def free_base() -> int:
    """A first port with all six ports free, below those that the system gives to others."""
    while True:
        base = random.randrange(20_000, 32_000)
        try:
            with contextlib.ExitStack() as stack:
                for number in (0, 1, 2, 10, 11, 12):
                    stack.enter_context(socket.create_server(("127.0.0.1", base + number)))
        except OSError:
            continue
        return base


class LocalServe:
    def __init__(self, data: Path, *options: str) -> None:
        self.base = free_base()
        self.output = ""
        command = [*COMMAND, "localserve", "--data", str(data), "--port-base", str(self.base), *options]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        deadline = time.monotonic() + START_SECONDS
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C stops" in line:
                return
            assert time.monotonic() < deadline, self.output
        raise AssertionError(self.output)

    def command(self, program: str) -> list[str]:
        """A printed command, without the path of the program."""
        (line,) = (line for line in self.output.splitlines() if f"{program} " in line and line.startswith("  "))
        return shlex.split(line)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.output += self.process.communicate(timeout=30)[0]
        return self.process.returncode


@pytest.fixture
def two(tmp_path: Path) -> Iterator[LocalServe]:
    serving = LocalServe(tmp_path)
    yield serving
    serving.stop()


def test_the_conversation_is_shown_and_ctrl_c_stops_cleanly(two: LocalServe, tmp_path: Path) -> None:
    for line in (
        "ann@alpha.localhost -> bob@beta.localhost: Hello bob, this is ann over XMPP.",
        "bob@beta.localhost -> ann@alpha.localhost: Loud and clear, over JSON.",
    ):
        assert line in two.output
    assert two.stop() == 0, two.output
    for number in (0, 1, 2, 10, 11, 12):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", two.base + number))
    for name in ("alpha", "beta"):
        log = (tmp_path / name / "log").read_text()
        assert "server stopped" in log
        assert "Traceback" not in log
        assert "part did not stop" not in log


def test_the_printed_commands_work(two: LocalServe) -> None:
    address, password = "bob@beta.localhost", ""
    for line in two.output.splitlines():
        if line.strip().startswith(address) and " password " in line:
            password = line.split()[-1]
    live = two.command("live")
    watch = [*COMMAND, *live[1:-1]]
    watch[watch.index("--login") + 1] = f"{address}:{password}"
    url = live[-1].replace(str(two.base + 2), str(two.base + 12))
    watching = subprocess.Popen([*watch, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    try:
        assert any('"ready"' in line for line in watching.stdout)
        done = subprocess.run(two.command("curl"), capture_output=True, text=True, check=False)
        assert '"access_token"' in done.stdout, done.stderr
        writing = subprocess.Popen(
            [*COMMAND, *live[1:]], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert writing.stdin is not None
        writing.stdin.write(f"{address} over the WebSocket\n")
        writing.stdin.flush()
        assert any("over the WebSocket" in line for line in watching.stdout)
        writing.terminate()
        writing.communicate()
        if shutil.which("go-sendxmpp"):
            (setting, program, *arguments) = two.command("go-sendxmpp")[3:]
            name, _, value = setting.partition("=")
            sent = subprocess.run(
                [program, *arguments],
                input="hello from go",
                env={**os.environ, name: value},
                capture_output=True,
                text=True,
                check=False,
            )
            assert sent.returncode == 0, sent.stderr
            assert any("hello from go" in line for line in watching.stdout)
    finally:
        watching.terminate()
        watching.communicate()


def operator(data: Path, *command: str) -> str:
    config = str(data / "alpha" / "parley.toml")
    done = subprocess.run(
        [*COMMAND, *command[:2], "--config", config, *command[2:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_operator_reaches_the_running_server(two: LocalServe, tmp_path: Path) -> None:
    assert operator(tmp_path, "queue", "list") == "nothing waits\n"
    assert operator(tmp_path, "queue", "retry", "beta.localhost") == "beta.localhost is tried now\n"
    assert operator(tmp_path, "queue", "drop", "--yes", "beta.localhost") == "0 given up\n"
    assert "nothing was ever sent" in operator(tmp_path, "queue", "retry", "c.example")
    curl = two.command("curl")
    operator(tmp_path, "account", "disable", "ann@alpha.localhost")
    refused = subprocess.run(curl, capture_output=True, text=True, check=False)
    assert '"status":401' in refused.stdout.replace(" ", "")
    operator(tmp_path, "account", "disable", "--undo", "ann@alpha.localhost")
    assert '"access_token"' in subprocess.run(curl, capture_output=True, text=True, check=False).stdout


def test_one_server_and_the_same_passwords_again(tmp_path: Path) -> None:
    passwords = []
    for _ in range(2):
        serving = LocalServe(tmp_path, "--one")
        assert "ann@alpha.localhost -> ada@alpha.localhost" in serving.output
        assert "beta.localhost" not in serving.output
        passwords.append([line for line in serving.output.splitlines() if " password " in line])
        assert serving.stop() == 0
    assert passwords[0] == passwords[1]


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*COMMAND, "localserve", "--data", str(tmp_path), "--port-base", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"port {port}: in use by" in done.stderr
    assert "Traceback" not in done.stderr
