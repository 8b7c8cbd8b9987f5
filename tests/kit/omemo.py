"""slixmpp with OMEMO as a process of its own (tests/e2e/interop/omemo_client.py) in an environment of its own."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kit.node import HOST, ParleyServer

_ROOT: Final = Path(__file__).parents[2]
_PROGRAM: Final = _ROOT / "tests" / "e2e" / "interop" / "omemo_client.py"
_LOCK: Final = _ROOT / "requirements" / "omemo.lock"
_SECONDS: Final = 240
PATIENCE: Final = 60.0


def omemo_python(folder: Path) -> Path:
    """The interpreter of a new environment in ``folder`` that holds what requirements/omemo.lock says.

    The test is skipped, with the reason, where that cannot be fetched.
    """
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    python = folder / "bin" / "python"
    if uv is not None:
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(_LOCK)],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(_LOCK)],
        ]
    for command in commands:
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"installing {_LOCK.name} takes longer than {_SECONDS} s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{_LOCK.name} cannot be installed: {error.stderr.decode(errors='replace')[-500:]}")
    return python


class OmemoDevice:
    """The process of one device; `tells` waits for what it reports."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.events: list[dict[str, Any]] = []

    def order(self, order: str, **rest: str) -> None:
        """Tell it what to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"order": order, **rest}).encode() + b"\n")

    async def tells(self, event: str, **wanted: Any) -> dict[str, Any]:
        """The next event of that name with these values; AssertionError, with what came, if there is none in time."""
        assert self._process.stdout is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while line := await self._process.stdout.readline():
                    found: dict[str, Any] = json.loads(line)
                    self.events.append(found)
                    if found["event"] == event and wanted.items() <= found.items():
                        return found
        raise AssertionError(f"no {event} {wanted}: {self.events}\n{self._log.read_text()[-2000:]}")

    async def send(self, to: str, text: str) -> None:
        """Send an encrypted message and wait until it is on its way."""
        self.order("send", to=to, text=text)
        await self.tells("sent", text=text, problems=[])


@contextlib.asynccontextmanager
async def omemo_device(python: Path, node: ParleyServer, name: str, folder: Path) -> AsyncIterator[OmemoDevice]:
    """A device of ``name``, logged in, its keys published. Its keys stay in ``folder``: the next one there is the same."""
    log = folder / f"{name}@{node.domain}.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            python, _PROGRAM, HOST, str(node.ports.required), node.authority.ca_file, f"{name}@{node.domain}",
            f"secret-{name}", folder / f"{name}@{node.domain}.json",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        made = OmemoDevice(process, log)
        try:
            await made.tells("ready")
            yield made
            made.order("stop")
            await made.tells("stopped")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
