"""Push registrations in the store."""

from homeserver.domain.push import Registration
from homeserver.protocol.jid import JID
from homeserver.storage import push
from homeserver.storage.database import Database

ONE = JID.parse("push.example")
TWO = JID.parse("app@push.example/x")


async def put(database: Database, made: Registration, now: float, most: int = 10) -> None:
    await database.write(push.put, made, now, most)


async def nodes(database: Database, account: int) -> list[tuple[str, str]]:
    return [(str(found.service), found.node) for found in await database.read(push.of, account)]


async def test_the_last_options_of_a_node_count(database: Database) -> None:
    first = Registration(1, ONE, "n", (("secret", ("old",)),), "device", "agent", 3)
    last = Registration(1, ONE, "n", (("secret", ("é <&>",)), ("many", ("1", "2")), ("none", ())))
    await put(database, first, 1.0)
    assert await database.read(push.of, 1) == [first]
    await put(database, last, 2.0)
    assert await database.read(push.of, 1) == [last]
    assert await database.read(push.accounts) == [1]
    await database.write(push.note_failures, last, 7)
    (found,) = await database.read(push.of, 1)
    assert found.failures == 7


async def test_a_service_ends_as_a_whole_or_by_node(database: Database) -> None:
    for at, (service, node) in enumerate([(ONE, "a"), (ONE, "b"), (TWO, "a")]):
        await put(database, Registration(1, service, node), float(at))
    await put(database, Registration(2, ONE, "a"), 9.0)
    assert await database.write(push.drop, 1, str(ONE), "a")
    assert await nodes(database, 1) == [(str(ONE), "b"), (str(TWO), "a")]
    assert await database.write(push.drop, 1, str(ONE), None)
    assert await nodes(database, 1) == [(str(TWO), "a")]
    assert not await database.write(push.drop, 1, str(TWO), "a")
    assert await nodes(database, 2) == [(str(ONE), "a")]


async def test_the_oldest_make_room(database: Database) -> None:
    for at, node in enumerate(["a", "b", "c"]):
        await put(database, Registration(1, ONE, node), float(at), 3)
    await put(database, Registration(1, ONE, "a"), 3.0, 3)
    await put(database, Registration(1, ONE, "d"), 4.0, 3)
    assert [node for _, node in await nodes(database, 1)] == ["c", "a", "d"]


async def test_registrations_end_with_their_device_or_account(database: Database) -> None:
    await put(database, Registration(1, ONE, "a", (), "phone"), 1.0)
    await put(database, Registration(2, ONE, "a", (), "tablet"), 1.0)
    await put(database, Registration(2, ONE, "b"), 1.0)
    await put(database, Registration(3, ONE, "a", (), "other"), 1.0)
    assert await database.write(push.drop_devices, ("phone", "tablet", "unknown")) == [1]
    assert sorted(await database.read(push.accounts)) == [2, 3]
    await put(database, Registration(2, TWO, "a", (), None, "agent"), 1.0)
    assert not await database.write(push.drop_client, 1, "agent")
    assert await database.write(push.drop_client, 2, "agent")
    assert [node for _, node in await nodes(database, 2)] == ["b"]
    await database.write(push.clear, 3)
    assert await database.read(push.accounts) == [2]
