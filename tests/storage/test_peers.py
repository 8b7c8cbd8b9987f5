"""What is remembered of other servers."""

from homeserver.domain.federation import REMEMBERED
from homeserver.storage import peers
from homeserver.storage.database import Database
from homeserver.storage.peers import PeerDocument, PeerKey

PAIR = ("a.example", "b.example")


async def take(database: Database, epoch: str, first: int, last: int, now: float = 0.0) -> None:
    names = [f"{epoch}{number}" for number in range(first, last + 1)]
    await database.write(peers.save_reception, *PAIR, epoch, last, names, {first: "bad"}, now)


async def test_reception_comes_back(database: Database) -> None:
    assert (await database.read(peers.reception, *PAIR)).epoch is None
    await take(database, "e", 1, 3)
    await take(database, "e", 4, 5)
    found = await database.read(peers.reception, *PAIR)
    assert (found.epoch, found.highest, list(found.ids)) == ("e", 5, ["e1", "e2", "e3", "e4", "e5"])
    assert found.rejected == {4: "bad"}
    await take(database, "f", 1, 2)
    found = await database.read(peers.reception, *PAIR)
    assert (found.epoch, found.highest, list(found.ids), found.retired) == ("f", 2, ["f1", "f2"], {"e"})


async def test_ids_are_known_in_every_epoch(database: Database) -> None:
    await take(database, "e", 1, 3)
    await take(database, "f", 1, 2)
    assert await database.read(peers.known_ids, *PAIR, ["e2", "f1", "x"]) == {"e2", "f1"}
    assert await database.read(peers.known_ids, "c.example", "b.example", ["e2"]) == set()


async def test_only_ids_that_cannot_come_again_are_forgotten(database: Database) -> None:
    await take(database, "d", 1, 3, now=1.0)
    await take(database, "e", 1, 500, now=1.0)
    await take(database, "e", 501, REMEMBERED + 400, now=2.0)
    await take(database, "e", REMEMBERED + 401, REMEMBERED + 500, now=50.0)
    assert await database.write(peers.forget_batches, 10.0) == 2
    found = await database.read(peers.reception, *PAIR)
    assert len(found.ids) == REMEMBERED
    assert found.ids[0] == "e501"


async def test_keys_are_remembered(database: Database) -> None:
    assert await database.read(peers.document, "a.example") is None
    await database.write(peers.save_base, "a.example", "https://a.example/x")
    first = PeerDocument("a.example", 1, ("g.a.example",), "https://a.example/x", (PeerKey("k", b"1" * 32, 1.0, None),))
    await database.write(peers.save_document, first, 5.0)
    assert await database.read(peers.document, "a.example") == first
    ended = PeerDocument("a.example", 2, (), "https://a.example/x", (PeerKey("k", b"2" * 32, 1.0, 9.0),))
    await database.write(peers.save_document, ended, 6.0)
    found = await database.read(peers.document, "a.example")
    assert found is not None
    assert found.keys == (PeerKey("k", b"1" * 32, 1.0, 9.0),)  # a key id keeps its key
    assert await database.read(peers.bases) == {"a.example": "https://a.example/x"}
