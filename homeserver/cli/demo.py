"""The servers of `parley localserve`: their folders, configuration, accounts and processes."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

import homeserver
from config.load import load_settings
from homeserver.cli.accounts import generate_password, open_accounts
from homeserver.cli.certificates import Authority

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 12.0
_POLL_SECONDS: Final = 0.1
_CONFIGURATION: Final = """\
# Written by `parley localserve`.
domains = ["{domain}"]
data_dir = "data"

[[listen]]
kind = "xmpp"
host = "{host}"
port = {xmpp}

[[listen]]
kind = "xmpps"
host = "{host}"
port = {xmpps}

[[listen]]
kind = "https"
host = "{host}"
port = {https}

[[tls.certificate]]
certificate_file = "certificate.pem"
key_file = "certificate.key"

[http]
public_url = "https://{host}:{https}"

[federation]
allow_private_addresses = true

[limits]
off_on_loopback = true
"""
_PEER: Final = """
[[federation.peer]]
domain = "{domain}"
url = "https://{host}:{https}/federation/v1"
ca_file = "{ca_file}"
"""


class DemoError(Exception):
    """A demonstration server cannot run; the text says why."""


@dataclass(frozen=True, slots=True)
class Person:
    """A demonstration account."""

    name: str
    domain: str
    password: str

    @property
    def address(self) -> str:
        """The bare address."""
        return f"{self.name}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one demonstration server lives: its domain, folder and ports."""

    domain: str
    folder: Path
    port_base: int

    @property
    def xmpp(self) -> int:
        """Port of XMPP with STARTTLS."""
        return self.port_base

    @property
    def xmpps(self) -> int:
        """Port of XMPP with TLS from the first byte."""
        return self.port_base + 1

    @property
    def https(self) -> int:
        """Port of the JSON API, WebSockets and federation."""
        return self.port_base + 2

    @property
    def url(self) -> str:
        """Base URL of the JSON API; an address, because names below `localhost` need not resolve."""
        return f"https://{HOST}:{self.https}"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "parley.toml"


def write_place(place: Place, peers: Sequence[Place], authority: Authority) -> None:
    """Writes configuration and certificate of one server."""
    place.folder.mkdir(parents=True, exist_ok=True)
    names = [place.domain, f"groups.{place.domain}", f"upload.{place.domain}"]
    authority.issue(names, place.folder / "certificate.pem", place.folder / "certificate.key", [HOST])
    text = _CONFIGURATION.format(domain=place.domain, host=HOST, xmpp=place.xmpp, xmpps=place.xmpps, https=place.https)
    for peer in peers:
        text += _PEER.format(
            domain=peer.domain, host=HOST, https=peer.https, ca_file=authority.certificate_file.absolute()
        )
    place.config.write_text(text, encoding="utf-8")


async def make_people(place: Place, names: Sequence[str]) -> list[Person]:
    """The accounts of one server; passwords are kept in its folder for the next start."""
    kept = place.folder / "passwords.json"
    passwords: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    async with open_accounts(load_settings(place.config)) as accounts:
        for name in names:
            if await accounts.find(f"{name}@{place.domain}") is None:
                passwords[name] = generate_password()
                await accounts.register(name, place.domain, passwords[name], admin=True)
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(passwords))
    return [Person(name, place.domain, passwords[name]) for name in names]


class Server:
    """The process of one demonstration server."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, trust: ssl.SSLContext) -> None:
        """Starts the process and waits until it serves. Raises `DemoError` with the end of its log."""
        root = str(Path(homeserver.__file__).parents[1])
        command = [sys.executable, "-m", "homeserver", "serve", "--config", str(self.place.config)]
        with self._log.open("ab") as log:
            # Its own session: Ctrl-C reaches this process alone, which then stops the servers in order.
            self._process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, "PYTHONPATH": root}, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
                while not await self._is_ready(session, trust):  # noqa: ASYNC110 - another process has no event for us
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise DemoError(
                f"{self.place.domain} did not start in {START_SECONDS:g} s\n{self._last_lines()}"
            ) from error

    async def stop(self) -> None:
        """Stops the process in an orderly way; kills it when that takes too long."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def died(self) -> None:
        """Returns when the process has ended."""
        if self._process is not None:
            await self._process.wait()

    @property
    def _log(self) -> Path:
        return self.place.folder / "log"

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])

    async def _is_ready(self, session: aiohttp.ClientSession, trust: ssl.SSLContext) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise DemoError(f"{self.place.domain} ended with {self._process.returncode}\n{self._last_lines()}")
        try:
            async with session.get(f"{self.place.url}/readyz", ssl=trust) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False
