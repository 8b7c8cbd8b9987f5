"""Our own signing keys: made on the first start, kept in files only we can read, rotated without a gap."""

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.destinations import MAX_TTL
from homeserver.protocol.keydocs import KeyDocument, PublishedKey, make_document
from homeserver.protocol.signing import SKEW, SigningKey
from homeserver.services.clock import Clock

DOCUMENT_TTL: Final = 3600
"""Seconds for which peers may keep our document."""


class KeyFileExposed(Exception):
    """A key file can be read by others than its owner."""


class _StoredKey(msgspec.Struct, omit_defaults=True):
    kid: str
    public: str
    not_before: int
    not_after: int | None = None
    seed: str | None = None


class _KeyFile(msgspec.Struct):
    domain: str
    number: int
    subdomains: list[str]
    keys: list[_StoredKey]


@dataclass(slots=True)
class _Domain:
    path: Path
    number: int
    subdomains: tuple[str, ...]
    keys: list[PublishedKey]
    private: dict[str, Ed25519PrivateKey]
    document: bytes = b""


class OwnKeys:
    """Keys of every hosted domain.

    ``domains`` maps each hosted domain to the names below it that it speaks for (groups, components). Files are
    ``directory/DOMAIN.json``, mode 0600. Raises `KeyFileExposed` if one can be read by others.
    """

    def __init__(self, directory: Path, domains: Mapping[str, Sequence[str]], clock: Clock) -> None:
        self._clock = clock
        self._domains: dict[str, _Domain] = {}
        self._owners: dict[str, str] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for domain, subdomains in domains.items():
            self._domains[domain] = self._load(directory / f"{domain}.json", domain, tuple(subdomains))
            self._owners.update(dict.fromkeys((domain, *subdomains), domain))

    @property
    def domains(self) -> tuple[str, ...]:
        """The hosted domains."""
        return tuple(self._domains)

    def published(self, domain: str) -> Sequence[PublishedKey]:
        """All keys of the document of ``domain``, ended ones included, in the order they were made."""
        return tuple(self._domains[domain].keys)

    def owner(self, name: str) -> str | None:
        """The hosted domain that speaks for ``name``, or None."""
        return self._owners.get(name)

    def names(self, domain: str) -> frozenset[str]:
        """What ``domain`` speaks for."""
        return frozenset(name for name, owner in self._owners.items() if owner == domain)

    def signing_key(self, domain: str) -> SigningKey:
        """The key to sign with now: the newest that is in use of ``domain``, or of the one that speaks for it."""
        mine, now = self._domains[self._owners[domain]], self._clock.now()
        usable = [key for key in mine.keys if key.id in mine.private and key.not_before <= now and not key.ended(now)]
        chosen = max(usable, key=lambda key: key.not_before)
        return SigningKey(chosen.id, mine.private[chosen.id])

    def document(self, name: str) -> bytes | None:
        """The signed key document of the domain that owns ``name``, or None."""
        owner = self._owners.get(name)
        return None if owner is None else self._domains[owner].document

    def rotate(self, domain: str, lead: float = MAX_TTL) -> str:
        """Publish a new key that is signed with after ``lead`` seconds, when no peer has an older document cached.

        The present key ends a little later. Returns the id of the new key.
        """
        mine, start = self._domains[domain], int(self._clock.now() + lead)
        end = start + 2 * SKEW
        mine.keys = [key if key.not_after is not None else replace(key, not_after=end) for key in mine.keys]
        made = self._add(mine, start)
        self._publish(mine, domain)
        return made

    def revoke(self, domain: str, key_id: str) -> None:
        """End a key now, with what it would still sign, and make a new one if no other is in use. Raises KeyError."""
        mine, now = self._domains[domain], int(self._clock.now())
        if key_id not in {key.id for key in mine.keys}:
            raise KeyError(key_id)
        mine.keys = [replace(key, not_after=now) if key.id == key_id else key for key in mine.keys]
        mine.private.pop(key_id, None)
        if not any(key.not_before <= now and not key.ended(now) for key in mine.keys):
            self._add(mine, now)
        self._publish(mine, domain)

    def retire(self) -> None:
        """Forget the private halves of ended keys and publish documents without their signatures; call it daily."""
        now = self._clock.now()
        for domain, mine in self._domains.items():
            ended = [key.id for key in mine.keys if key.ended(now) and key.id in mine.private]
            for key_id in ended:
                del mine.private[key_id]
            if ended:
                self._publish(mine, domain)

    def _load(self, path: Path, domain: str, subdomains: tuple[str, ...]) -> _Domain:
        now = int(self._clock.now())
        if not path.exists():
            mine = _Domain(path, 0, subdomains, [], {})
            self._add(mine, now)
            self._publish(mine, domain)
            return mine
        if path.stat().st_mode & 0o077:
            raise KeyFileExposed(f"{path} can be read by others: chmod 600 it, and rotate the key")
        stored = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
        mine = _Domain(
            path,
            stored.number,
            tuple(stored.subdomains),
            [PublishedKey(key.kid, base64.b64decode(key.public), key.not_before, key.not_after) for key in stored.keys],
            {
                key.kid: Ed25519PrivateKey.from_private_bytes(base64.b64decode(key.seed))
                for key in stored.keys
                if key.seed is not None
            },
        )
        if mine.subdomains != subdomains:
            mine.subdomains = subdomains
            self._publish(mine, domain)
        else:
            self._sign(mine, domain)
        return mine

    def _add(self, mine: _Domain, not_before: int) -> str:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        # Made from the key itself: no two keys of a domain can ever share an id.
        key_id = "ed25519-" + hashlib.sha256(public).hexdigest()[:16]
        mine.keys.append(PublishedKey(key_id, public, not_before))
        mine.private[key_id] = private
        return key_id

    def _publish(self, mine: _Domain, domain: str) -> None:
        # Seconds since the epoch, so that a number made after a restored backup is still above all before it.
        mine.number = max(mine.number + 1, int(self._clock.now()))
        self._save(mine, domain)
        self._sign(mine, domain)

    def _sign(self, mine: _Domain, domain: str) -> None:
        now = self._clock.now()
        signers = [SigningKey(key.id, mine.private[key.id]) for key in mine.keys if not key.ended(now)]
        mine.document = make_document(KeyDocument(domain, mine.number, mine.subdomains, tuple(mine.keys)), signers)

    def _save(self, mine: _Domain, domain: str) -> None:
        keys = [
            _StoredKey(
                key.id,
                base64.b64encode(key.public).decode(),
                key.not_before,
                key.not_after,
                base64.b64encode(mine.private[key.id].private_bytes_raw()).decode() if key.id in mine.private else None,
            )
            for key in mine.keys
        ]
        fresh = mine.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_KeyFile(domain, mine.number, list(mine.subdomains), keys)))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(mine.path)
        directory = os.open(mine.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
