"""Who may federate with whom, and how much of it at a time."""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pin:
    """A peer whose place or keys the operator wrote down.

    ``url`` is the base of its signed API or None; ``ca_file`` a PEM file that its certificate must come from or None;
    ``keys`` its public keys, 32 bytes each, by key id (empty: fetched from it). Its address may be private.
    """

    domain: str
    url: str | None = None
    ca_file: Path | None = None
    keys: Mapping[str, bytes] = field(default_factory=dict)

    def context(self) -> ssl.SSLContext | None:
        """The TLS context for this peer, None for the usual one."""
        return None if self.ca_file is None else ssl.create_default_context(cafile=self.ca_file)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold: stanzas, bytes of body as sent and inflated, bytes and depth of a stanza; and how
    many seconds a body may take to arrive."""

    batch_stanzas: int = 500
    batch_bytes: int = 1024 * 1024
    body_bytes: int = 4 * 1024 * 1024
    stanza_bytes: int = 512 * 1024
    stanza_depth: int = 64
    passing_stanzas: int = 1000
    body_seconds: float = 30.0


class Policy:
    """The operator's lists. A listed domain stands for the names below it too; ``deny`` wins over ``allow``."""

    __slots__ = ("_allow", "_deny")

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self.reload(allow, deny)

    def reload(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        """Take over other lists."""
        self._allow = frozenset(allow)
        self._deny = frozenset(deny)

    def permits(self, domain: str) -> bool:
        """Whether stanzas may be exchanged with ``domain``. An empty ``allow`` permits all that are not denied."""
        if not self._allow and not self._deny:
            return True
        labels = domain.split(".")
        above = [".".join(labels[start:]) for start in range(len(labels))]
        if not self._deny.isdisjoint(above):
            return False
        return not self._allow or not self._allow.isdisjoint(above)
