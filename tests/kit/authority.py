"""A certificate authority for one test run."""

from collections.abc import Sequence
from pathlib import Path

import trustme


class Authority:
    """Issues server certificates; ``ca_file`` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, names: Sequence[str], stem: str) -> tuple[Path, Path]:
        """A certificate for ``names``: (chain file, key file); the key has mode 0600."""
        made = self._ca.issue_cert(*names)
        certificate = self._folder / f"{stem}.crt"
        key = self._folder / f"{stem}.key"
        key.touch(mode=0o600)
        made.private_key_pem.write_to_path(key)
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(certificate, append=number > 0)
        return certificate, key
