"""The rig of Debian's Prosody: its default modules with the file archive, no TLS, no rate limits.

Two federating Prosodys find each other without DNS: their domains are literal loopback addresses, for which Prosody
goes straight to port 5269 of that address. They authenticate each other by dialback (XEP-0220).
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import trustme

from tests.benchmarks.pairs import chat_message
from tests.benchmarks.processes import free_loopback_hosts
from tests.benchmarks.servers import PASSWORD, Rig, Server

_CLIENT_PORT = 5222
_SERVER_PORT = 5269
_PROGRAM = "prosody"

# Debian's modules_enabled of 0.12, without "tls" and "limits" (added where a run wants TLS), with "mam".
_MODULES = (
    "disco roster saslauth blocklist bookmarks carbons dialback pep private smacks vcard4 vcard_legacy csi_simple "
    "invites invites_adhoc invites_register ping register time uptime version admin_adhoc admin_shell posix mam"
)

_CONFIGURATION = """
run_as_root = true
daemonize = false
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
admin_socket = "{folder}/prosody.sock"
log = {{ {{ levels = {{ min = "warn" }}, to = "file", filename = "{folder}/prosody.log" }} }}
network_backend = "epoll"
gc = {{ mode = "generational" }}
use_ipv6 = false
modules_enabled = {{ {modules} }}
authentication = "{authentication}"
password_hash = "SHA-256"
certificates = "{folder}"
storage = "internal"
default_archive_policy = true
archive_expires_after = "never"
max_archive_query_results = 100
storage_archive_item_limit = 10000000
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
s2s_require_encryption = false
s2s_secure_auth = false
interfaces = {{ "{host}" }}
c2s_ports = {{ {client_port} }}
s2s_ports = {{ {server_port} }}
c2s_direct_tls_ports = {{ }}
s2s_direct_tls_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
VirtualHost "{host}"
{ssl}
"""


def is_installed() -> bool:
    """Say whether the program is there."""
    return shutil.which(_PROGRAM) is not None


class ProsodyRig(Rig):
    """Prosody, one process per domain."""

    name = "prosody"

    def prepare(self) -> None:
        """Write a configuration, and every account as the file Prosody keeps it in."""
        for index, host in enumerate(free_loopback_hosts([_CLIENT_PORT, _SERVER_PORT], self.domains)):
            folder = self.folder / f"prosody{index}"
            accounts = folder / "data" / _encoded(host) / "accounts"
            accounts.mkdir(parents=True)
            for user in range(self.users):
                (accounts / f"u{user}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
            rosters = folder / "data" / _encoded(host) / "roster"
            rosters.mkdir()
            for user, contacts in self.contacts.items():
                (rosters / f"u{user}.dat").write_text(_roster(host, contacts))
            configuration = folder / "prosody.cfg.lua"
            configuration.write_text(self._configuration(folder, host))
            command = [_PROGRAM, "--config", str(configuration), "-F"]
            self.servers.append(Server(host, host, _CLIENT_PORT, command, folder / "prosody.log"))

    def _configuration(self, folder: Path, host: str) -> str:
        modules = _MODULES.split()
        ssl = ""
        if self.tls:
            modules.append("tls")
            pem = folder / "server.pem"
            certificate = trustme.CA().issue_cert(host)
            certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
            ssl = f'ssl = {{ certificate = "{pem}", key = "{pem}" }}'
        return _CONFIGURATION.format(
            folder=folder,
            host=host,
            modules=", ".join(f'"{module}"' for module in modules),
            client_port=_CLIENT_PORT,
            server_port=_SERVER_PORT,
            ssl=ssl,
            authentication="internal_hashed" if self.hashed else "internal_plain",
        )

    def archive_key(self, rows: int) -> str | None:
        """Write the archive of u1 as Prosody stores it: through the server 200 000 messages would take minutes."""
        server = self.servers[0]
        folder = self.folder / "prosody0" / "data" / _encoded(server.domain) / "archive"
        folder.mkdir(parents=True)
        start = int(time.time()) - rows
        with (folder / "u1.list").open("w") as archive:
            for number in range(rows):
                archive.write(_archive_item(server.domain, number, start + number))
        return "k%09d"


def _encoded(name: str) -> str:
    """Return a name as Prosody spells it in file names."""
    return "".join(char if char.isalnum() else f"%{ord(char):02x}" for char in name)


def _roster(domain: str, contacts: Sequence[int]) -> str:
    """Return a contact list as Prosody stores it; every subscription goes both ways."""
    items = (
        f'["u{number}@{domain}"] = {{ ["name"] = "Contact {number}"; ["subscription"] = "both"; ["groups"] = {{}}; }};\n'
        for number in contacts
    )
    return 'return {\n[false] = { ["version"] = 1; };\n' + "".join(items) + "};\n"


def _archive_item(domain: str, number: int, when: int) -> str:
    """Return one archived message as a line of Prosody's list file, in its own serialisation."""
    template = chat_message(f"u1@{domain}", "u0").decode()
    body = template.partition("<body>")[2].partition("</body>")[0]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
    return (
        f'item({{["attr"]={{["from"]="u0@{domain}/bench";["id"]="u0-{number}";["stamp"]="{stamp}";'
        f'["to"]="u1@{domain}";["type"]="chat";["xml:lang"]="en";}};["key"]="k{number:09d}";["name"]="message";'
        f'["when"]={when};["with"]="u0@{domain}";[1]={{["attr"]={{}};["name"]="body";[1]="{body}";}};'
        f'[2]={{["attr"]={{["id"]="u0-{number}";["xmlns"]="urn:xmpp:sid:0";}};["name"]="origin-id";}};'
        '[3]={["attr"]={["xmlns"]="urn:xmpp:chat-markers:0";};["name"]="markable";};});\n'
    )
