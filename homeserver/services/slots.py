"""Permissions to upload one file (XEP-0363 s4): signed, so that they survive a restart, and counted, so that they are few.

A token holds what was permitted and a signature over it; nothing is stored. What is in memory, `Slots`, only counts
room that is promised: after a restart it is empty, and who comes with a token is counted again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from homeserver.domain.errors import Forbidden

LIFETIME: Final = 300.0
"""Seconds in which an upload must begin (XEP-0363 s8)."""
MAX_TOKEN: Final = 4096
MOST: Final = 10_000
"""Permissions in the whole server that are not used yet."""


class Slot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is permitted. ``type`` "" leaves the content type open; ``until`` is when the slot ends, ``keep_until`` when
    the file does if the uploader wished it, in seconds since the epoch; ``account`` is the uploader's number."""

    id: str
    account: int
    name: str
    type: str
    size: int
    until: float
    keep_until: float | None = None

    def of_type(self, kind: str) -> Slot:
        """The same slot with its content type known."""
        return Slot(self.id, self.account, self.name, kind, self.size, self.until, self.keep_until)


def sign(slot: Slot, key: bytes) -> str:
    """The token of a slot: ASCII without spaces."""
    claims = msgspec.json.encode(slot)
    return f"{_encode(claims)}.{_encode(_mac(claims, key))}"


def verify(token: str, key: bytes) -> Slot:
    """What a token permits, whether or not it is over. Raises `Forbidden`."""
    claims, _, mac = token.partition(".")
    try:
        if len(token) > MAX_TOKEN:
            raise ValueError("too long")
        text, given = _decode(claims), _decode(mac)
        if not hmac.compare_digest(_mac(text, key), given):
            raise ValueError("another signature")
        return msgspec.json.decode(text, type=Slot)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise Forbidden("this is not permission to upload") from error


@dataclass(frozen=True, slots=True)
class Held:
    """Room that is promised to one account: how many files, their bytes, and when the first promise ends (or None)."""

    count: int = 0
    bytes: int = 0
    until: float | None = None


class Slots:
    """Room that is promised to slots and to uploads under way."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._waiting: OrderedDict[str, Slot] = OrderedDict()
        self._running: dict[str, Slot] = {}
        self._of: dict[int, dict[str, Slot]] = {}
        self.bytes = 0
        """All that is promised."""

    @property
    def waiting(self) -> int:
        """Slots that nobody has used yet."""
        self._expire()
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Uploads under way."""
        return len(self._running)

    def of(self, account: int) -> Held:
        """What is promised to an account."""
        self._expire()
        found = self._of.get(account)
        if not found:
            return Held()
        untils = [slot.until for slot in found.values() if slot.id in self._waiting]
        return Held(len(found), sum(slot.size for slot in found.values()), min(untils, default=None))

    def hold(self, slot: Slot) -> None:
        """Promise room until the slot ends. Slots are held in the order of their ends."""
        if slot.id in self._of.get(slot.account, ()):
            return
        self._waiting[slot.id] = slot
        self._count(slot)

    def holds(self, id_: str) -> bool:
        """Whether room is promised to a slot that nobody has used yet."""
        self._expire()
        return id_ in self._waiting

    def is_running(self, id_: str) -> bool:
        """Whether its upload is under way."""
        return id_ in self._running

    def run(self, slot: Slot) -> None:
        """The upload begins: its room is held until `release`."""
        if self._waiting.pop(slot.id, None) is None:
            self._count(slot)
        self._running[slot.id] = slot

    def release(self, id_: str, again: bool = False) -> None:
        """The upload has ended. ``again``: it failed, so its slot may be used once more."""
        slot = self._running.pop(id_)
        self._uncount(slot)
        if again and slot.until > self._now():
            self.hold(slot)
            # Among those that end later or sooner it does not matter: it is looked at when the first one ends.
            self._waiting.move_to_end(slot.id, last=False)

    def _expire(self) -> None:
        now = self._now()
        while self._waiting:
            first = next(iter(self._waiting.values()))
            if first.until > now:
                return
            del self._waiting[first.id]
            self._uncount(first)

    def _count(self, slot: Slot) -> None:
        self._of.setdefault(slot.account, {})[slot.id] = slot
        self.bytes += slot.size

    def _uncount(self, slot: Slot) -> None:
        mine = self._of[slot.account]
        del mine[slot.id]
        if not mine:
            del self._of[slot.account]
        self.bytes -= slot.size


def _mac(claims: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"parley upload slot 1\0" + claims, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
