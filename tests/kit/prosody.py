"""Prosody as a second server: proof that the storm checkers can fail, and the other side of interoperation tests."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.kit.authority import Authority
from tests.kit.server import Account, Endpoint, Security, ServerProcess, free_port

PROGRAM: Final = shutil.which("prosody")

_MODULES: Final = (
    "roster", "saslauth", "tls", "disco", "ping", "carbons", "pep", "mam", "smacks", "offline", "presence", "message",
    "iq", "c2s", "blocklist", "vcard4", "vcard_legacy", "bookmarks", "time", "version", "private", "csi_simple",
)  # fmt: skip


def config_text(
    domain: str, folder: Path, port: int, certificate: tuple[Path, Path], *, archive: bool, s2s: str = ""
) -> str:
    """The configuration file: cleartext and STARTTLS on ``port``, all files below ``folder``.

    ``archive`` False leaves out the message archive; ``s2s`` is Lua text with federation settings, empty for none.
    """
    modules = [name for name in _MODULES if archive or name != "mam"] + (
        ["pinned_peers", "s2s", "dialback"] if s2s else []
    )
    listed = "; ".join(f'"{name}"' for name in modules)
    return f"""
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
certificates = "{folder}"
plugin_paths = {{ "{folder}/plugins" }}
modules_enabled = {{ {listed} }}
modules_disabled = {{ {"" if s2s else '"s2s"'} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
max_archive_query_results = 250
smacks_max_queue_size = 100000
log = {{ info = "*console" }}
{s2s}
VirtualHost "{domain}"
    ssl = {{ certificate = "{certificate[0]}"; key = "{certificate[1]}" }}
"""


class ProsodyServer:
    """One Prosody in its own folder. Accounts are ``names`` at ``domain`` with the password "secret-" and the name."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        names: Sequence[str],
        *,
        domain: str = "prosody.example",
        security: Security = "none",
        archive: bool = True,
        s2s: str = "",
    ) -> None:
        if PROGRAM is None:
            raise RuntimeError("prosody is not installed")
        if security == "direct":
            raise ValueError("this rig speaks cleartext and STARTTLS")
        folder.mkdir(parents=True, exist_ok=True)
        self.accounts = tuple(Account(f"{name}@{domain}", f"secret-{name}") for name in names)
        self.endpoint = Endpoint("127.0.0.1", free_port(), domain, security, authority.ca_file)
        if s2s:
            (folder / "plugins").mkdir()
            (folder / "plugins" / "mod_pinned_peers.lua").write_text(PINNED_PEERS)
        stored = folder / "data" / domain.replace(".", "%2e").replace("-", "%2d") / "accounts"
        stored.mkdir(parents=True)
        for account in self.accounts:
            (stored / f"{account.local}.dat").write_text(f'return {{ ["password"] = "{account.password}"; }};\n')
        certificate = authority.issue([domain], domain)
        config = folder / "prosody.cfg.lua"
        config.write_text(config_text(domain, folder, self.endpoint.port, certificate, archive=archive, s2s=s2s))
        self._process = ServerProcess([PROGRAM, "-F", "--config", str(config)], folder / "prosody.log")

    async def start(self) -> None:
        """Start it and wait for its port."""
        self._process.spawn()
        await self._process.listening(self.endpoint.host, self.endpoint.port)

    async def kill9(self) -> None:
        """SIGKILL."""
        await self._process.kill9()

    async def stop(self) -> float:
        """SIGTERM; the seconds it took."""
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


PINNED_PEERS: Final = """
module:set_global();
local manual = require "net.resolvers.manual";
local service = require "net.resolvers.service";
local look_up = service.new;
local peers = module:get_option("pinned_peers", {});
service.new = function (hostname, name, conn_type, extra)
    local port = peers[hostname];
    if not port then
        return look_up(hostname, name, conn_type, extra);
    end
    local targets = {};
    if name == "xmpp-server" then
        targets[1] = { conn_type or "tcp", "127.0.0.1", port, extra };
    end
    return manual.new(targets, conn_type, extra);
end
"""
"""A plugin that reaches listed domains at loopback ports instead of asking the DNS."""


def federation_text(port: int, peers: Mapping[str, int]) -> str:
    """Federation settings: listen on ``port``; ``peers`` maps domains to loopback ports. Dialback over TLS."""
    listed = " ".join(f'["{domain}"] = {there};' for domain, there in peers.items())
    return f"s2s_ports = {{ {port} }}\ns2s_secure_auth = false\npinned_peers = {{ {listed} }}\n"


def prosody_pair(
    folder: Path,
    authority: Authority,
    names: Sequence[str],
    *,
    domains: tuple[str, str] = ("one.example", "two.example"),
    archive: bool = True,
) -> tuple[ProsodyServer, ProsodyServer]:
    """Two servers that federate on loopback."""
    ports = {domain: free_port() for domain in domains}

    def node(own: str, other: str) -> ProsodyServer:
        s2s = federation_text(ports[own], {other: ports[other]})
        return ProsodyServer(folder / own, authority, names, domain=own, archive=archive, s2s=s2s)

    return node(*domains), node(*reversed(domains))
