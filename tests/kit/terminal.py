"""A program with a full-screen interface, driven through a pseudo-terminal."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from typing import Final

from tests.kit.server import die_with_parent

_ESCAPES: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][A-Za-z0-9]|[=>78]|\][^\x07]*\x07)|[\x0e\x0f]")
_ROWS, _COLUMNS = 50, 200


class Terminal:
    """Runs ``argv``; use as ``async with``. What it drew is compared without escapes.

    Look for words without spaces: a screen library may skip over blanks.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._argv = list(argv)
        self._env = {**os.environ, "TERM": "xterm", **env}
        self._drawn = b""
        self._moved = asyncio.Event()

    async def __aenter__(self) -> "Terminal":
        own, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            self._argv,
            stdin=its,
            stdout=its,
            stderr=its,
            env=self._env,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, so that it does not outlive its test run
        )
        os.close(its)
        os.set_blocking(own, False)
        self._own = own
        asyncio.get_running_loop().add_reader(own, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._own)
        self._process.kill()
        await asyncio.to_thread(self._process.wait, 10)
        os.close(self._own)

    def type(self, line: str) -> None:
        """Enter a line."""
        os.write(self._own, line.encode() + b"\r")

    async def shows(self, word: str, seconds: float = 30.0) -> None:
        """Wait until it has drawn a word since the last call. AssertionError, with what it drew, if it does not."""
        try:
            async with asyncio.timeout(seconds):
                while word not in self.text:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError as error:
            raise AssertionError(f"{word} is not among:\n{self.text[-3000:]}") from error

    def forget(self) -> None:
        """What was drawn so far counts no more."""
        self._drawn = b""

    @property
    def text(self) -> str:
        """What was drawn since the start or `forget`."""
        return _ESCAPES.sub(b"", self._drawn).decode(errors="replace")

    def _read(self) -> None:
        try:
            data = os.read(self._own, 65536)
        except BlockingIOError:
            return
        except OSError:  # the program is gone
            asyncio.get_running_loop().remove_reader(self._own)
            return
        self._drawn += data
        self._moved.set()
