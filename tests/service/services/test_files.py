"""Uploaded files: how long they are there, and what goes when."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from config.feature_settings import UploadSettings
from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, Conflict, Forbidden, NotAllowed, NotFound, RateLimited, TooLarge
from homeserver.domain.files import File
from homeserver.services.contents import Contents
from homeserver.services.files import Files
from homeserver.storage import files as storage
from homeserver.storage.blobs import Blobs
from tests.kit.world import World

DAY = 86_400.0
SETTINGS = UploadSettings(max_bytes=1000, account_bytes=5000, account_daily_bytes=5000, reserve=0, retention=10 * DAY)


@dataclass
class Shelf:
    """Files over a store."""

    world: World
    files: Files
    folder: Path

    async def store(self, account: Account, data: bytes = b"data", name: str = "a.txt") -> File:
        upload = await self.files.begin_direct(account, name, len(data), "text/plain")
        await upload.write([data])
        return await upload.finish()

    async def content(self, found: File) -> bytes:
        descriptor = await self.files.open(found)
        try:
            return await self.files.read(descriptor, 1000, 0)
        finally:
            self.files.shut(descriptor)

    def contents(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@asynccontextmanager
async def opened(world: World, folder: Path, settings: UploadSettings = SETTINGS) -> AsyncIterator[Shelf]:
    files = Files(world.database, Contents(Blobs(folder)), world.accounts, settings, world.clock, "https://a.example")
    await files.start()
    await files.disposal.settle()
    yield Shelf(world, files, folder)
    await files.close()


@pytest.fixture
async def shelf(server: World, tmp_path: Path) -> AsyncIterator[Shelf]:
    async with opened(server, tmp_path / "uploads") as found:
        yield found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_file_is_there_until_its_time_is_over(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    made = await shelf.store(alice)
    assert await shelf.files.find(made.id, "a.txt") == made
    assert await shelf.content(made) == b"data"
    with pytest.raises(NotFound):
        await shelf.files.find(made.id, "b.txt")
    shelf.world.clock.advance(10 * DAY)
    with pytest.raises(NotFound):
        await shelf.files.find(made.id, "a.txt")
    await shelf.files.disposal.purge()
    assert shelf.contents() == []
    assert (await shelf.files.usage(alice)).files == 0


async def test_without_retention_files_stay(shelf: Shelf) -> None:
    shelf.files.reload(replace(SETTINGS, retention=0.0))
    made = await shelf.store(await shelf.world.account("alice"))
    assert shelf.files.lifetime(made) is None
    shelf.world.clock.advance(10_000 * DAY)
    await shelf.files.disposal.purge()
    assert await shelf.content(await shelf.files.find(made.id, "a.txt")) == b"data"


async def test_a_deleted_account_leaves_nothing(shelf: Shelf) -> None:
    alice, bob = await shelf.world.account("alice"), await shelf.world.account("bob")
    gone, kept = await shelf.store(alice), await shelf.store(bob)
    await shelf.world.accounts.delete("alice@a.example")
    await shelf.files.disposal.settle()
    with pytest.raises(NotFound):
        await shelf.files.find(gone.id, "a.txt")
    assert await shelf.content(kept) == b"data"
    assert len(shelf.contents()) == 1


async def test_an_upload_ends_with_its_account(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    upload = await shelf.files.begin_direct(alice, "a", 4, None)
    await upload.write([b"data"])
    await shelf.world.accounts.delete("alice@a.example")
    with pytest.raises(Forbidden):
        await upload.finish()
    await shelf.files.disposal.settle()
    assert shelf.contents() == []
    assert shelf.files.running == 0


async def test_what_a_crash_left_is_cleared_away(server: World, tmp_path: Path) -> None:
    """A content without its row, half a content, and files whose owner was deleted in the moment of the crash."""
    folder = tmp_path / "uploads"
    async with opened(server, folder) as before:
        alice = await server.account("alice")
        kept, lost = await before.store(alice), await before.store(alice, b"lost")
        await server.database.write(storage.drop, [lost.id])
        bob = await server.account("bob")
        await server.accounts.delete("bob@a.example")
        await before.files.disposal.settle()
        late = File("b" * 32, bob.id, "b", "text/plain", 4, bytes(32), 0.0, None)
        await server.database.write(storage.add, late)
        (folder / "incoming" / f"{'c' * 32}.0").write_bytes(b"half")
        (folder / "bb").mkdir()
        (folder / "bb" / late.id).write_bytes(b"late")
        for path in before.contents():
            os.utime(path, (1000, 1000))
    async with opened(server, folder) as after:
        assert await after.content(await after.files.find(kept.id, "a.txt")) == b"data"
        assert [path.name for path in after.contents()] == [kept.id]
        assert await server.database.read(storage.find, late.id) is None


async def test_an_upload_under_way_is_no_garbage(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    upload = await shelf.files.begin_direct(alice, "a", 4, None)
    await upload.write([b"data"])
    shelf.world.clock.advance(2 * DAY)
    await shelf.files.disposal.purge()
    assert await shelf.content(await upload.finish()) == b"data"


async def test_a_missing_content_is_not_found(shelf: Shelf) -> None:
    made = await shelf.store(await shelf.world.account("alice"))
    shelf.contents()[0].unlink()
    with pytest.raises(NotFound):
        await shelf.files.open(await shelf.files.find(made.id, "a.txt"))


async def test_who_may_delete(shelf: Shelf) -> None:
    alice, bob = await shelf.world.account("alice"), await shelf.world.account("bob")
    made = await shelf.store(alice)
    for id_ in (made.id, "f" * 32, "../x"):
        with pytest.raises(NotFound):
            await shelf.files.delete(bob, id_)
    await shelf.files.delete(alice, made.id)
    assert shelf.contents() == []


async def test_an_upload_that_breaks_off_leaves_nothing(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    upload = await shelf.files.begin_direct(alice, "a", 100, None)
    await upload.write([b"da"])
    with pytest.raises(BadRequest):
        await upload.finish()
    upload.discard()
    upload.discard()
    await until(lambda: shelf.contents() == [])
    assert shelf.files.running == 0
    another = await shelf.files.begin_direct(alice, "a", 2, None)
    with pytest.raises(TooLarge):
        await another.write([b"too long"])
    another.discard()
    await until(lambda: shelf.contents() == [])


async def test_a_caller_that_goes_away_does_not_stop_what_is_being_stored(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    upload = await shelf.files.begin_direct(alice, "a", 4, None)
    await upload.write([b"data"])
    finishing = asyncio.ensure_future(upload.finish())
    while not upload._has_ended:  # looked at in every turn of the loop: it is stored soon after
        await asyncio.sleep(0)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    upload.discard()
    await until(lambda: shelf.files.running == 0)
    assert (await shelf.files.usage(alice)).files == 1


async def test_a_full_disk_is_told_and_leaves_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await shelf.world.account("alice")
    upload = await shelf.files.begin_direct(alice, "a", 8, None)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        await upload.write([b"datadata"])
        with pytest.raises(OSError, match="No space"):
            await upload.finish()
    await until(lambda: shelf.contents() == [])
    assert (shelf.files.running, (await shelf.files.usage(alice)).files) == (0, 0)
    assert (await shelf.store(alice)).size == 4


async def test_bounds_on_uploads_at_the_same_time(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    shelf.files.reload(replace(SETTINGS, uploads=1))
    upload = await shelf.files.begin_direct(alice, "a", 4, None)
    with pytest.raises(RateLimited):
        await shelf.store(alice)
    upload.discard()
    assert (await shelf.store(alice)).size == 4


async def test_a_server_that_takes_no_files(shelf: Shelf) -> None:
    shelf.files.reload(replace(SETTINGS, enabled=False))
    with pytest.raises(NotAllowed):
        await shelf.store(await shelf.world.account("alice"))


async def test_a_slot_without_content_type_takes_the_one_of_the_upload(shelf: Shelf) -> None:
    alice = await shelf.world.account("alice")
    for given, kept in (("Image/PNG", "image/png"), (None, "application/octet-stream")):
        permit = await shelf.files.permit(alice, "a", 1, None)
        id_ = permit.url.split("/")[-2]
        upload = await shelf.files.begin(id_, "a", permit.token, 1, given)
        with pytest.raises(Conflict):
            await shelf.files.begin(id_, "a", permit.token, 1, given)
        await upload.write([b"x"])
        assert (await upload.finish()).type == kept
