"""A real Parley process: configuration, accounts, start, kill, restart; and two of them that federate."""

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kit.authority import Authority
from tests.kit.server import Account, Endpoint, Security, ServerProcess, free_port

HOST: Final = "127.0.0.1"
FEDERATION_PATH: Final = "/federation"
READY_DEADLINE: Final = 30.0
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ports:
    """The listeners of one node; they stay the same over restarts. ``required`` refuses everything without TLS."""

    xmpp: int
    required: int
    xmpps: int
    https: int

    @staticmethod
    def free() -> "Ports":
        """Four ports nobody listens on."""
        found: set[int] = set()
        while len(found) < 4:
            found.add(free_port(HOST))
        return Ports(*found)


@dataclass(frozen=True, slots=True)
class Peer:
    """A pinned server: domain, base URL of its federation API, the authority of its certificate."""

    domain: str
    url: str
    ca_file: Path


def config_text(
    domain: str,
    data: Path,
    ports: Ports,
    certificate: tuple[Path, Path],
    *,
    peers: Sequence[Peer] = (),
    extra: Mapping[str, Mapping[str, str | int | bool]] | None = None,
) -> str:
    """The configuration file. ``extra``: more keys by section; they win over the ones written here."""
    sections: dict[str, dict[str, str | int | bool]] = {
        "limits": {"off_on_loopback": True},
        "federation": {
            "enabled": bool(peers),
            "url": f"https://{HOST}:{ports.https}{FEDERATION_PATH}",
            "allow_private_addresses": True,
            "backoff_min": "100 ms",
            "backoff_max": "1 second",
            "timeout": "5 seconds",
        },
        "http": {"public_url": f"https://{HOST}:{ports.https}"},
        "log": {"level": "info", "format": "json"},
    }
    for name, keys in (extra or {}).items():
        sections.setdefault(name, {}).update(keys)
    parts = [f'domains = ["{domain}"]', f'data_dir = "{data}"']
    for kind, port, tls in (
        ("xmpp", ports.xmpp, "optional"),
        ("xmpp", ports.required, "required"),
        ("xmpps", ports.xmpps, "direct"),
        ("https", ports.https, "direct"),
    ):
        parts.append(f'[[listen]]\nkind = "{kind}"\nhost = "{HOST}"\nport = {port}\ntls = "{tls}"')
    parts.append(f'[[tls.certificate]]\ncertificate_file = "{certificate[0]}"\nkey_file = "{certificate[1]}"')
    for name, keys in sections.items():
        parts.append("\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]))
    parts += [
        f'[[federation.peer]]\ndomain = "{peer.domain}"\nurl = "{peer.url}"\nca_file = "{peer.ca_file}"'
        for peer in peers
    ]
    return "\n\n".join(parts) + "\n"


def _toml(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f'"{value}"'


class ParleyServer:
    """One node in ``folder``. Accounts are ``names`` at ``domain`` with the password "secret-" and the name; they are
    added by the command line before the first start.

    ``env`` goes to the process; ``extra`` to the configuration; ``data`` is the data folder (below ``folder`` without).
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        names: Sequence[str],
        *,
        domain: str = "parley.example",
        security: Security = "starttls",
        ports: Ports | None = None,
        peers: Sequence[Peer] = (),
        extra: Mapping[str, Mapping[str, str | int | bool]] | None = None,
        env: Mapping[str, str] | None = None,
        data: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.domain = domain
        self.ports = ports or Ports.free()
        self.authority = authority
        self.accounts = tuple(Account(f"{name}@{domain}", f"secret-{name}") for name in names)
        self.endpoint = self.endpoint_for(security)
        self.data = data or folder / "data"
        self.config = folder / "homeserver.toml"
        self.certificate = authority.issue([domain, "localhost", HOST], domain)
        self.config.write_text(config_text(domain, self.data, self.ports, self.certificate, peers=peers, extra=extra))
        self._env = {"PYTHONPATH": str(ROOT), **(env or {})}
        argv = [sys.executable, "-m", "homeserver", "serve", "--config", str(self.config)]
        self._process = ServerProcess(argv, folder / "parley.log", self._env)
        self._has_accounts = False

    def endpoint_for(self, security: Security) -> Endpoint:
        """Where to log in with that kind of TLS."""
        port = self.ports.xmpps if security == "direct" else self.ports.xmpp
        return Endpoint(HOST, port, self.domain, security, self.authority.ca_file)

    @property
    def base_url(self) -> str:
        """The https listener, without a slash at the end."""
        return f"https://{HOST}:{self.ports.https}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.returncode

    async def run_command(self, *words: str, stdin: str = "") -> str:
        """``python -m homeserver`` with ``words`` and the configuration; what it printed. RuntimeError if it failed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "homeserver", *words, "--config", str(self.config),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._env},
        )  # fmt: skip
        output, _ = await process.communicate(stdin.encode())
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}:\n{output.decode()}")
        return output.decode()

    async def start(self) -> None:
        """Add the accounts if this is the first start, start, wait for ``/readyz``."""
        if not self._has_accounts and self.accounts:
            lines = "".join(f"{account.jid} {account.password}\n" for account in self.accounts)
            await self.run_command("account", "add", "--from-file", "-", stdin=lines)
        self._has_accounts = True
        self._process.spawn()
        await self.wait_ready()

    async def wait_ready(self, deadline: float = READY_DEADLINE) -> None:
        """Until ``/readyz`` answers 200; RuntimeError with the log if the process ends or time runs out."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if self._process.returncode is not None:
                raise RuntimeError(f"ended with {self._process.returncode}:\n{self.log_tail()}")
            if await self._is_ready():
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"not ready in {deadline} s:\n{self.log_tail()}")

    async def _is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=self.authority.ca_file)
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(
                    HOST, self.ports.https, ssl=context, server_hostname=self.domain
                )
                try:
                    writer.write(f"GET /readyz HTTP/1.1\r\nHost: {self.domain}\r\nConnection: close\r\n\r\n".encode())
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return status.split(b" ")[1:2] == [b"200"]

    async def kill9(self) -> None:
        """SIGKILL."""
        await self._process.kill9()

    async def stop(self) -> float:
        """SIGTERM; the seconds until it was gone."""
        return await self._process.terminate()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.thaw()

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return self._process.log_tail(lines)


def parley_pair(
    folder: Path,
    authority: Authority,
    names: Sequence[str],
    *,
    domains: tuple[str, str] = ("one.example", "two.example"),
    security: Security = "starttls",
    ports: Mapping[str, Ports] | None = None,
    reach: Mapping[str, int] | None = None,
    extra: Mapping[str, Mapping[str, str | int | bool]] | None = None,
) -> tuple[ParleyServer, ParleyServer]:
    """Two nodes with each other pinned. ``reach``: for a domain, the loopback port under which the other side reaches it,
    such as a fault proxy in front of its https listener."""
    listeners = ports or {domain: Ports.free() for domain in domains}

    def url(domain: str) -> str:
        port = (reach or {}).get(domain, listeners[domain].https)
        return f"https://{HOST}:{port}{FEDERATION_PATH}"

    def node(own: str, other: str) -> ParleyServer:
        # what is signed is the public URL: behind a proxy, a node must know itself by the proxy's address
        settings = {name: dict(keys) for name, keys in (extra or {}).items()}
        settings.setdefault("federation", {}).setdefault("url", url(own))
        return ParleyServer(
            folder / own,
            authority,
            names,
            domain=own,
            security=security,
            ports=listeners[own],
            peers=[Peer(name, url(other), authority.ca_file) for name in (other, f"pubsub.{other}", f"upload.{other}")],
            extra=settings,
        )

    return node(*domains), node(*reversed(domains))
