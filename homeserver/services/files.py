"""Uploaded files: who may store what, for how long, and where it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import structlog

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotAllowed,
    NotFound,
    RateLimited,
    ResourceConstraint,
    StorageFull,
    TooLarge,
)
from homeserver.domain.files import DEFAULT_TYPE, File, Usage, clean_name, content_type
from homeserver.services.accounts import Accounts
from homeserver.services.file_disposal import DAY, FileDisposal
from homeserver.services.slots import LIFETIME, MOST, Slot, Slots, sign, verify
from homeserver.storage import accounts as secret_storage
from homeserver.storage import files as storage

if TYPE_CHECKING:
    from config.feature_settings import UploadSettings
    from homeserver.services.clock import Clock
    from homeserver.services.contents import Contents, Writing
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

BUSY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Permit:
    """A slot as the uploader gets it: the one address for PUT and GET, and the bearer token for PUT."""

    url: str
    token: str


class Upload:
    """One file that is coming in. It ends with `finish` or `discard`."""

    def __init__(self, slot: Slot, writing: Writing, files: Files) -> None:
        self._slot = slot
        self._writing = writing
        self._files = files
        self._has_ended = False
        self._received = 0

    async def write(self, parts: Sequence[bytes]) -> None:
        """Take the next bytes. Raises `TooLarge` for more than was permitted, and OSError."""
        self._received += sum(map(len, parts))
        if self._received > self._slot.size:
            raise TooLarge("more bytes came than were announced")
        await self._writing.write(parts)

    async def finish(self, *, exact: bool = True) -> File:
        """Store what came, durably; from then on it is served. ``exact``: nothing may be missing.

        Goes on if the caller goes away. Raises `BadRequest` (bytes are missing), `Forbidden` (the account has ended)
        and OSError.
        """
        await self._writing.settle()
        if exact and self._received != self._slot.size:
            raise BadRequest("fewer bytes came than were announced")
        if not self._received:
            raise BadRequest("the file is empty")
        self._has_ended = True
        return await self._files.stored(self._slot, self._writing)

    def discard(self) -> None:
        """Give up; the slot may be used again. Does nothing once the file is being stored."""
        if not self._has_ended:
            self._has_ended = True
            self._files.gave_up(self._slot, self._writing)


class Files:
    """Call `start` once before anything else. ``base`` is the URL below which files are served."""

    def __init__(
        self,
        database: Database,
        contents: Contents,
        accounts: Accounts,
        settings: UploadSettings,
        clock: Clock,
        base: str,
    ) -> None:
        self._database = database
        self._contents = contents
        self._accounts = accounts
        self._settings = settings
        self._clock = clock
        self._base = base.rstrip("/")
        self._key = b""
        self._slots = Slots(clock.now)
        self._storing: set[asyncio.Task[File]] = set()
        self.disposal = FileDisposal(database, contents, accounts, clock, self._slots.is_running)

    async def start(self) -> None:
        """Load the key of slots, and clear away what a crash left of uploads."""
        proposed = secrets.token_bytes(32)
        self._key = await self._database.write(secret_storage.ensure_secret, "upload", proposed, self._clock.now())
        await self._contents.prepare()
        self.disposal.purge_now()

    async def close(self) -> None:
        """Wait for what is being stored or deleted, and end the threads."""
        while self._storing:
            await asyncio.wait(tuple(self._storing))
        await self.disposal.settle()
        self._contents.close()

    def reload(self, settings: UploadSettings) -> None:
        """Take over other bounds for what comes from now on."""
        self._settings = settings

    def now(self) -> float:
        """Seconds since the epoch, by the clock that quotas and retention go by."""
        return self._clock.now()

    @property
    def max_bytes(self) -> int:
        """Size of the largest file that is taken."""
        return min(self._settings.max_bytes, self._settings.account_bytes, self._settings.account_daily_bytes)

    @property
    def running(self) -> int:
        """Uploads under way."""
        return self._slots.running

    @property
    def quota(self) -> tuple[int, int]:
        """Bytes that an account may store, and upload in a day."""
        return self._settings.account_bytes, self._settings.account_daily_bytes

    def url(self, id_: str, name: str) -> str:
        """The address of a file (RFC 3986: everything else than letters, digits and ``-._~`` percent-encoded)."""
        return f"{self._base}/files/{id_}/{quote(name, safe='')}"

    # --- coming in --------------------------------------------------------------------------------------------------

    async def permit(
        self, account: Account, name: str, size: int, kind: str | None, keep_until: float | None = None
    ) -> Permit:
        """Permit one upload of exactly ``size`` bytes that begins within five minutes.

        ``kind`` is its content type, None leaves it open. The file goes at ``keep_until`` (seconds since the epoch) if
        retention lets it live so long. Raises `BadRequest`, `TooLarge`, `RateLimited` (a quota that will have room
        later), `StorageFull` and `ResourceConstraint`.
        """
        slot = self._slot(account, name, size, kind, LIFETIME, keep_until)
        await self._admit(slot)
        return Permit(self.url(slot.id, slot.name), sign(slot, self._key))

    async def begin(self, id_: str, name: str, token: str, size: int, kind: str | None) -> Upload:
        """Begin the upload that a token permits. ``size`` and ``kind`` are what the uploader now says.

        Raises `Forbidden` (forged, over, for another file, another type, an account that has ended), `TooLarge`,
        `BadRequest`, `Conflict` (it was used), and what `permit` raises.
        """
        slot = verify(token, self._key)
        if (slot.id, slot.name) != (id_, name):
            raise Forbidden("this is permission for another file")
        if slot.until <= self._clock.now():
            raise Forbidden("the permission to upload is over, ask for another one")
        await self._refuse_ended(slot)
        if self._slots.is_running(id_) or await self._database.read(storage.find, id_) is not None:
            raise Conflict("the file is there already")
        if size > slot.size:
            raise TooLarge("larger than announced")
        if size < slot.size:
            raise BadRequest("smaller than announced")
        if kind is not None and slot.type:
            if content_type(kind) != slot.type:
                raise Forbidden("this is permission for another content type")
        elif kind is not None:
            slot = slot.of_type(_checked_type(kind))
        if not self._slots.holds(id_):
            await self._admit(slot)
        return await self._run(slot)

    async def begin_direct(self, account: Account, name: str, at_most: int, kind: str | None) -> Upload:
        """Begin an upload without a slot, of up to ``at_most`` bytes. Raises as `permit`."""
        slot = self._slot(account, name, at_most, kind, 0.0, None)
        await self._admit(slot)
        return await self._run(slot)

    async def stored(self, slot: Slot, writing: Writing) -> File:
        """For `Upload`: make a file of what came. It goes on if the caller goes away."""
        task = asyncio.get_running_loop().create_task(self._store(slot, writing))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        return await asyncio.shield(task)

    def gave_up(self, slot: Slot, writing: Writing) -> None:
        """For `Upload`: it broke off."""
        self._slots.release(slot.id, again=True)
        writing.discard()

    # --- there ------------------------------------------------------------------------------------------------------

    async def find(self, id_: str, name: str) -> File:
        """The file at an address. Raises `NotFound`."""
        found = await self._database.read(storage.find, id_)
        if found is None or found.name != name or (found.expires is not None and found.expires <= self._clock.now()):
            raise NotFound("no such file")
        return found

    def lifetime(self, found: File) -> float | None:
        """Seconds that a file will still be there; None for ever."""
        return None if found.expires is None else found.expires - self._clock.now()

    async def open(self, found: File) -> int:
        """A descriptor for `read`, which the caller gives to `shut`. Raises `NotFound`."""
        made = await self._contents.open(found.id)
        if made is None:
            log.error("content of a file is missing", account=found.account, bytes=found.size)
            raise NotFound("no such file")
        return made

    async def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes of an open content."""
        return await self._contents.read(descriptor, size, offset)

    def shut(self, descriptor: int) -> None:
        """Close a descriptor that is not being read."""
        self._contents.shut(descriptor)

    async def usage(self, account: Account) -> Usage:
        """What an account has stored, and what of it came within a day."""
        return await self._database.read(storage.usage, account.id, self._clock.now() - DAY)

    async def delete(self, account: Account, id_: str) -> None:
        """Delete a file of the account. Raises `NotFound` for any other."""
        found = await self._database.read(storage.find, id_)
        if found is None or found.account != account.id:
            raise NotFound("no such file")
        await self.disposal.drop([id_])

    # --- inner ------------------------------------------------------------------------------------------------------

    def _slot(
        self, account: Account, name: str, size: int, kind: str | None, lifetime: float, keep_until: float | None
    ) -> Slot:
        if not self._settings.enabled:
            raise NotAllowed("this server takes no files")
        if size < 1:
            raise BadRequest("a file has at least one byte")
        if size > self.max_bytes:
            raise TooLarge(f"File too large. The maximum file size is {self.max_bytes} bytes")
        now = self._clock.now()
        if keep_until is not None and keep_until <= now:
            raise BadRequest("the file would be over before it came")
        wanted = "" if kind is None else _checked_type(kind)
        return Slot(secrets.token_hex(16), account.id, clean_name(name), wanted, size, now + lifetime, keep_until)

    async def _admit(self, slot: Slot) -> None:
        """Promise room to a slot."""
        now = self._clock.now()
        used = await self._database.read(storage.usage, slot.account, now - DAY)
        free = await self._contents.free()
        # From here to the promise nothing else runs.
        settings, held = self._settings, self._slots.of(slot.account)
        if held.count >= settings.slots_per_account:
            raise RateLimited("Too many uploads were asked for and not begun", (held.until or now + LIFETIME) - now)
        wanted = held.bytes + slot.size
        if used.bytes + wanted > settings.account_bytes:
            text = f"Quota reached. All your files may have {settings.account_bytes} bytes"
            if used.frees is None:
                raise StorageFull(text)
            raise RateLimited(text, max(used.frees - now, 1.0))
        if used.recent + wanted > settings.account_daily_bytes:
            text = f"Quota reached. You may upload {settings.account_daily_bytes} bytes in a day"
            raise RateLimited(
                text, max((now - DAY + LIFETIME if used.oldest is None else used.oldest) + DAY - now, 1.0)
            )
        if self._slots.waiting >= MOST:
            raise ResourceConstraint("Too many uploads were asked for and not begun")
        if free - self._slots.bytes - slot.size < settings.reserve:
            log.warning("upload refused, the disk is full", free=free)
            raise StorageFull("The server has no room for files")
        self._slots.hold(slot)

    async def _run(self, slot: Slot) -> Upload:
        if self._slots.is_running(slot.id):
            raise Conflict("the file is there already")
        if self._slots.running >= self._settings.uploads:
            raise RateLimited("too many uploads at the moment", BUSY_SECONDS)
        self._slots.run(slot)
        try:
            return Upload(slot, await self._contents.begin(slot.id), self)
        except BaseException:
            self._slots.release(slot.id, again=True)
            raise

    async def _store(self, slot: Slot, writing: Writing) -> File:
        try:
            digest = await writing.finish()
            try:
                await self._refuse_ended(slot)
                made = self._file(slot, writing.size, digest)
                await self._database.write(storage.add, made)
            except BaseException:
                await self._contents.remove([slot.id])
                raise
        finally:
            writing.discard()
            self._slots.release(slot.id)
        log.info("file stored", account=slot.account, bytes=made.size, type=made.type)
        return made

    def _file(self, slot: Slot, size: int, digest: bytes) -> File:
        now = self._clock.now()
        ends = [now + self._settings.retention] if self._settings.retention else []
        if slot.keep_until is not None:
            ends.append(slot.keep_until)
        kind = slot.type or DEFAULT_TYPE
        return File(slot.id, slot.account, slot.name, kind, size, digest, now, min(ends, default=None))

    async def _refuse_ended(self, slot: Slot) -> None:
        account = await self._accounts.by_id(slot.account)
        if account is None or account.state is not AccountState.ACTIVE:
            raise Forbidden("the account may not upload")


def _checked_type(text: str) -> str:
    found = content_type(text)
    if found is None:
        raise BadRequest("this is no content type")
    return found
