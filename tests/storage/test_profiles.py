"""vCards and private data in the store."""

import pytest

from homeserver.storage import private_data, vcards
from homeserver.storage.database import Database


async def test_a_vcard_is_replaced_and_forgotten(database: Database) -> None:
    assert await database.read(vcards.of, 1) is None
    for text in (b"<a/>", b"<b/>"):
        await database.write(vcards.put, 1, text)
        assert await database.read(vcards.of, 1) == text
    await database.write(vcards.put, 2, b"<c/>")
    await database.write(vcards.clear, 1)
    assert await database.read(vcards.of, 1) is None
    assert await database.read(vcards.of, 2) == b"<c/>"


async def test_documents_are_replaced_by_name(database: Database) -> None:
    await database.write(private_data.put, 1, {"{urn:a}b": b"1", "c": b"2"}, None)
    await database.write(private_data.put, 1, {"c": b"3", "d": b"4"}, 100)
    await database.write(private_data.put, 2, {"c": b"5"}, 100)
    found = [await database.read(private_data.of, 1, name) for name in ("{urn:a}b", "c", "d", "e")]
    assert found == [b"1", b"3", b"4", None]
    await database.write(private_data.put, 1, {"c": b""}, 100)
    assert await database.read(private_data.of, 1, "c") is None
    await database.write(private_data.clear, 1)
    assert await database.read(private_data.of, 1, "d") is None
    assert await database.read(private_data.of, 2, "c") == b"5"


async def test_s145_too_much_is_not_stored(database: Database) -> None:
    await database.write(private_data.put, 1, {"a": b"x" * 40}, 50)
    with pytest.raises(private_data.Full):
        await database.write(private_data.put, 1, {"b": b"x" * 4, "a": b"x" * 50}, 50)
    assert await database.read(private_data.of, 1, "a") == b"x" * 40
    assert await database.read(private_data.of, 1, "b") is None
    await database.write(private_data.put, 1, {"a": b"", "b": b"x" * 40}, 50)
    await database.write(private_data.put, 2, {"a": b"x" * 40}, 50)
