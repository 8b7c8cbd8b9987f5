"""The rig of Parley itself, from this checkout: SQLite, archive on, defaults otherwise.

`_configuration` and `_add_accounts` are the only places that know how our server is configured and started.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import trustme

from tests.benchmarks.processes import free_port
from tests.benchmarks.servers import PASSWORD, Rig, Server, ServerFailure

_ROOT = Path(__file__).resolve().parents[2]
_HOST = "127.0.0.1"
_PROGRAM = [sys.executable, "-m", "homeserver"]
# The allocator settings are those that `./parley` exports.
_ENVIRONMENT = {
    "PYTHONPATH": str(_ROOT),
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "MALLOC_TOP_PAD_": "1048576",
}


class ParleyRig(Rig):
    """Parley, one process per domain; two of them federate over signed HTTPS."""

    name = "parley"

    def prepare(self) -> None:
        """Make certificates from one authority, a configuration per server, and the accounts."""
        authority = trustme.CA()
        authority_file = self.folder / "authority.pem"
        authority.cert_pem.write_to_path(str(authority_file))
        peers = {f"bench{index}.localhost": free_port() for index in range(self.domains)}
        for index, domain in enumerate(peers):
            folder = self.folder / f"parley{index}"
            folder.mkdir()
            leaf = authority.issue_cert(domain, f"groups.{domain}", f"upload.{domain}", _HOST, "localhost")
            (folder / "key.pem").touch(mode=0o600)
            leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
            for number, blob in enumerate(leaf.cert_chain_pems):
                blob.write_to_path(str(folder / "certificate.pem"), append=number > 0)
            client_port = free_port()
            path = folder / "parley.toml"
            path.write_text(
                _configuration(domain, folder, client_port=client_port, peers=peers, authority=authority_file)
            )
            _add_accounts(path, domain, self.users, self.contacts)
            command = [*_PROGRAM, "serve", "--config", str(path)]
            self.servers.append(Server(domain, _HOST, client_port, command, folder / "parley.log", _ENVIRONMENT))


def _configuration(domain: str, folder: Path, *, client_port: int, peers: dict[str, int], authority: Path) -> str:
    """Return the configuration file of one server; `peers` names the HTTPS port of every domain, its own included."""
    lines = [
        f'domains = ["{domain}"]',
        f'data_dir = "{folder}/data"',
        f'[http]\npublic_url = "https://{_HOST}:{peers[domain]}"',
        '[limits]\noff_on_loopback = true\npresence_per_account = "100000 per second"',
        '[log]\nlevel = "warning"',
        f'[[tls.certificate]]\ncertificate_file = "{folder}/certificate.pem"\nkey_file = "{folder}/key.pem"',
        f'[[listen]]\nkind = "xmpp"\nhost = "{_HOST}"\nport = {client_port}\ntls = "optional"',
        f'[[listen]]\nkind = "https"\nhost = "{_HOST}"\nport = {peers[domain]}',
        f"[federation]\nenabled = {str(len(peers) > 1).lower()}\nallow_private_addresses = true\n"
        f'url = "{_base_url(peers[domain])}"',
    ]
    lines += [
        f'[[federation.peer]]\ndomain = "{peer}"\nurl = "{_base_url(port)}"\nca_file = "{authority}"'
        for peer, port in peers.items()
        if peer != domain
    ]
    return "\n".join(lines) + "\n"


def _base_url(port: int) -> str:
    """Return the base URL of the federation API."""
    return f"https://{_HOST}:{port}/federation/v1"


def _add_accounts(configuration: Path, domain: str, users: int, contacts: Mapping[int, Sequence[int]]) -> None:
    """Add all accounts and their contacts in one process. Raises ServerFailure."""
    lines = "".join(
        " ".join((f"u{user}@{domain}", PASSWORD, *(f"u{number}@{domain}" for number in contacts.get(user, ())))) + "\n"
        for user in range(users)
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.accounts", str(configuration)],
        input=lines.encode(),
        capture_output=True,
        cwd=_ROOT,
        check=False,
    )
    if done.returncode:
        raise ServerFailure(f"accounts could not be added: {done.stderr.decode(errors='replace')[-2000:]}")
