"""Files in the store, on both databases."""

from homeserver.domain.files import File, Usage
from homeserver.storage import files
from homeserver.storage.database import Database


def made(number: int, account: int = 1, *, size: int = 10, created: float = 0.0, expires: float | None = None) -> File:
    return File(f"{number:032x}", account, "nämé.png", "image/png", size, bytes(32), created, expires)


async def test_a_file_comes_back_as_it_was(database: Database) -> None:
    stored = made(1, size=2**40, created=1_763_600_000.25, expires=1_763_700_000.5)
    await database.write(files.add, stored)
    assert await database.read(files.find, stored.id) == stored
    assert await database.read(files.find, "f" * 32) is None


async def test_usage(database: Database) -> None:
    assert await database.read(files.usage, 1, 0.0) == Usage(0, 0, 0, None, None)
    for number, created in enumerate((10.0, 20.0, 30.0)):
        await database.write(files.add, made(number, created=created, expires=created + 100))
    await database.write(files.add, made(9, created=40.0))
    await database.write(files.add, made(10, account=2, size=5, created=50.0))
    assert await database.read(files.usage, 1, 15.0) == Usage(40, 4, 30, 20.0, 110.0)
    assert await database.read(files.usage, 2, 50.0) == Usage(5, 1, 0, None, None)


async def test_what_goes(database: Database) -> None:
    for number in range(6):
        await database.write(files.add, made(number, account=1 + number % 2, expires=number * 10.0))
    await database.write(files.add, made(7, account=3))
    assert sorted(await database.read(files.expired, 20.0, 10)) == [made(number).id for number in range(3)]
    assert len(await database.read(files.expired, 1e12, 4)) == 4
    assert sorted(await database.read(files.owned, 2, 10)) == [made(number).id for number in (1, 3, 5)]
    assert await database.read(files.owners, 0, 2) == [1, 2]
    assert await database.read(files.owners, 2, 2) == [3]
    ids = [made(number).id for number in (0, 1, 99)]
    assert await database.read(files.known, ids) == set(ids[:2])
    await database.write(files.drop, ids)
    assert await database.read(files.known, ids) == set()
    assert (await database.read(files.usage, 1, 0.0)).files == 2
