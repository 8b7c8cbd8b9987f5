"""Contents on the disk."""

import hashlib
import os
from pathlib import Path

import pytest

from homeserver.storage.blobs import Blobs

ONE, TWO = "0" * 32, "ab" * 16


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path / "uploads")
    made.prepare()
    return made


def content(blobs: Blobs, id_: str) -> bytes | None:
    found = blobs.open(id_)
    if found is None:
        return None
    with os.fdopen(found, "rb") as file:
        return file.read()


def store(blobs: Blobs, id_: str, data: bytes) -> bytes:
    incoming = blobs.begin(id_)
    incoming.write([data[:3], data[3:]])
    return incoming.finish()


def everything(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_content_is_there_when_it_is_finished(blobs: Blobs) -> None:
    incoming = blobs.begin(ONE)
    incoming.write([b"hello ", b"", b"world"])
    assert content(blobs, ONE) is None
    assert incoming.size == 11
    assert incoming.finish() == hashlib.sha256(b"hello world").digest()
    assert content(blobs, ONE) == b"hello world"
    incoming.discard()
    assert content(blobs, ONE) == b"hello world"


def test_what_is_given_up_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    incoming = blobs.begin(ONE)
    incoming.write([b"half"])
    incoming.discard()
    incoming.discard()
    assert everything(tmp_path) == []
    with pytest.raises(ValueError, match="given up"):
        incoming.write([b"more"])
    with pytest.raises(ValueError, match="given up"):
        incoming.finish()


def test_after_a_crash_halves_are_removed_and_wholes_stay(blobs: Blobs, tmp_path: Path) -> None:
    store(blobs, ONE, b"whole")
    blobs.begin(TWO).write([b"half"])
    again = Blobs(tmp_path / "uploads")
    again.prepare()
    assert content(again, ONE) == b"whole"
    assert content(again, TWO) is None
    assert len(everything(tmp_path)) == 1


def test_only_the_owner_of_the_process_reads_them(blobs: Blobs, tmp_path: Path) -> None:
    """S-167."""
    store(blobs, ONE, b"secret")
    for path in tmp_path.joinpath("uploads").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
        assert not path.is_file() or path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("id_", ["", "a", "../" * 8, "A" * 32, "0" * 31 + "\n", "0" * 33, "/etc/passwd"])
def test_an_id_is_no_path(blobs: Blobs, id_: str) -> None:
    for use in (blobs.begin, blobs.open, lambda one: blobs.remove([one])):
        with pytest.raises(ValueError, match="not the id"):
            use(id_)


def test_links_are_not_followed(blobs: Blobs, tmp_path: Path) -> None:
    """S-167: somebody who could plant a link in the folder gets nothing by it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "uploads" / "00").mkdir()
    (tmp_path / "uploads" / "00" / ONE).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        blobs.open(ONE)


def test_old_contents_are_listed_and_removed(blobs: Blobs, tmp_path: Path) -> None:
    for id_ in (ONE, TWO):
        store(blobs, id_, b"data")
    os.utime(tmp_path / "uploads" / "00" / ONE, (1000, 1000))
    assert [id_ for portion in blobs.older(2000) for id_ in portion] == [ONE]
    assert sorted(id_ for portion in blobs.older(1e12) for id_ in portion) == [ONE, TWO]
    blobs.remove([ONE, "f" * 32])
    assert content(blobs, ONE) is None
    assert content(blobs, TWO) == b"data"


def test_free_room(blobs: Blobs) -> None:
    assert blobs.free() > 0
