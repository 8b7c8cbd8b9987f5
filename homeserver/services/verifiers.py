"""Verifiers that accounts lack: those made elsewhere or before a hash was added have fewer families (XEP-0480)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.accounts import Verifier
from homeserver.services.passwords import HASHES, SALT_BYTES
from homeserver.storage import accounts as storage

if TYPE_CHECKING:
    from config.settings import AccountSettings
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

_PREFIX: Final = "SCRAM-"


class Verifiers:
    """Call `start` once. ``lacking`` are the hashes for which some account has no verifier, as of the start.

    It is told for the server as a whole: what is offered must not tell which accounts exist.
    """

    def __init__(self, database: Database, settings: AccountSettings) -> None:
        self._database = database
        self._rounds = settings.scram_iterations
        self.lacking: tuple[str, ...] = ()

    async def start(self) -> None:
        """Look through the accounts."""
        found = []
        for mechanism, hash_name in HASHES.items():
            if await self._database.read(storage.lacks_verifier, mechanism):
                found.append(hash_name)
        self.lacking = tuple(found)
        if found:
            log.info("accounts lack verifiers, clients are asked for them", hashes=found)

    async def missing(self, bare: str, hash_names: Sequence[str]) -> list[tuple[str, bytes, int]]:
        """Hash name, new salt and rounds for each of ``hash_names`` that the account lacks."""
        has = await self._database.read(storage.mechanisms_of, bare)
        return [
            (name, secrets.token_bytes(SALT_BYTES), self._rounds) for name in hash_names if _PREFIX + name not in has
        ]

    async def add(self, bare: str, made: Verifier) -> None:
        """Give the account a verifier it lacks; one it has got meanwhile stays."""
        if await self._database.write(storage.add_verifier, bare, made):
            log.info("verifier added", account=bare, mechanism=made.mechanism)
