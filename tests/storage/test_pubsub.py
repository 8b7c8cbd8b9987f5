"""Publish-subscribe in the store, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from homeserver.domain.pubsub import (
    PEP_DEFAULT,
    AccessModel,
    Affiliation,
    Item,
    ItemReply,
    NodeConfig,
    Subscription,
    SubscriptionState,
)
from homeserver.protocol.jid import JID
from homeserver.storage import pubsub
from homeserver.storage.database import Database, open_database
from homeserver.storage.pubsub_shapes import Exists, Full, NewNode, Publication, Wanted
from tests.storage.conftest import Section

ALICE = JID.parse("alice@a.example")
BOB = JID.parse("bob@a.example")
NOW = 1_763_600_000_000_000


@pytest.fixture
async def database(section: Section) -> AsyncIterator[Database]:
    async with open_database(section) as found:
        yield found


def new(name: str = "n", host: JID = ALICE, config: NodeConfig = PEP_DEFAULT) -> NewNode:
    return NewNode(host, name, host, 1000.5, config, None)


def publication(node: int | NewNode, *ids: str, **changes: object) -> Publication:
    items = [(id_, f"<v xmlns='u'>{id_}</v>".encode()) for id_ in ids]
    made = Publication(node, ALICE, BOB, items, NOW, keep=100, room=10_000, shared=True)
    return replace(made, **changes)  # type: ignore[arg-type]


async def listed(database: Database, node: int, **wanted: object) -> str:
    page = await database.read(pubsub.page, Wanted(node, **wanted))  # type: ignore[arg-type]
    return "".join(item.id for item in page.items)


async def test_a_node_comes_back_as_it_was_made(database: Database) -> None:
    config = NodeConfig(
        access_model=AccessModel.ROSTER, max_items=None, item_expire=60, item_reply=ItemReply.OWNER,
        roster_groups=("a & b", "ü"), title="T'", max_payload_size=7,
    )  # fmt: skip
    node = await database.write(pubsub.create, NewNode(ALICE, "n\n'\"", BOB, 1000.5, config, BOB))
    await database.write(pubsub.affiliate, node, {"x@y.example": Affiliation.PUBLISH_ONLY})
    full = JID.parse("x@y.example/r%_")
    await database.write(pubsub.subscribe, node, [Subscription(full, SubscriptionState.PENDING)])
    [found] = await database.read(pubsub.load, ALICE.bare)
    assert (found.node.id, found.node.name, found.node.host, found.node.creator) == (node, "n\n'\"", ALICE, BOB)
    assert (found.node.config, found.node.created) == (config, 1000.5)
    assert found.affiliations == {BOB.bare: Affiliation.OWNER, "x@y.example": Affiliation.PUBLISH_ONLY}
    assert found.subscriptions == {str(full): Subscription(full, SubscriptionState.PENDING)}
    assert (found.last, found.items, found.bytes) == (None, 0, 0)
    assert await database.read(pubsub.load, BOB.bare) == []


async def test_which_of_many_hosts_have_nodes(database: Database) -> None:
    await database.write(pubsub.create, new("one"))
    await database.write(pubsub.create, new("two"))
    many = [f"nobody{number}@a.example" for number in range(1100)]
    assert await database.read(pubsub.hosts_with_nodes, [*many, ALICE.bare]) == [ALICE.bare]
    assert await database.read(pubsub.hosts_with_nodes, []) == []


async def test_one_name_is_one_node(database: Database) -> None:
    await database.write(pubsub.create, new())
    with pytest.raises(Exists):
        await database.write(pubsub.create, new())
    with pytest.raises(Exists):
        await database.write(pubsub.publish, publication(new(), "a"))
    await database.write(pubsub.create, new(host=BOB))


async def test_items_grow_in_time_even_if_the_clock_does_not(database: Database) -> None:
    first = await database.write(pubsub.publish, publication(new(), "a", "b"))
    second = await database.write(pubsub.publish, publication(first.node, "c", now=NOW - 5))
    assert [item.published_at for item in (*first.items, *second.items)] == [NOW, NOW + 1, NOW + 2]
    assert (second.count, second.bytes) == (3, 3 * len(b"<v xmlns='u'>a</v>"))
    [found] = await database.read(pubsub.load, ALICE.bare)
    assert found.last == Item("c", BOB, NOW + 2, b"<v xmlns='u'>c</v>")
    assert await listed(database, first.node) == "cba"


async def test_an_item_of_the_same_id_is_replaced_and_newest(database: Database) -> None:
    made = await database.write(pubsub.publish, publication(new(), "a", "b"))
    again = await database.write(pubsub.publish, publication(made.node, "a", items=[("a", b"<w/>")]))
    assert (again.count, again.bytes) == (2, len(b"<v xmlns='u'>b</v><w/>"))
    assert await listed(database, made.node) == "ab"


async def test_the_oldest_go(database: Database) -> None:
    made = await database.write(pubsub.publish, publication(new(), *"abcde", keep=2))
    assert (made.count, await listed(database, made.node)) == (2, "ed")
    await database.write(pubsub.configure, made.node, PEP_DEFAULT, 1)
    assert await listed(database, made.node) == "e"


async def test_room_is_of_the_node_or_of_the_host(database: Database) -> None:
    size = len(b"<v xmlns='u'>a</v>")
    made = await database.write(pubsub.publish, publication(new("one"), "a", "b", room=3 * size))
    with pytest.raises(Full):
        await database.write(pubsub.publish, publication(new("two"), "a", "b", room=3 * size))
    assert len(await database.read(pubsub.load, ALICE.bare)) == 1
    await database.write(pubsub.publish, publication(new("two"), "a", "b", room=3 * size, shared=False))
    # What does not take more room is taken also where there is too much already.
    await database.write(pubsub.publish, publication(made.node, "a", room=size))
    with pytest.raises(Full):
        await database.write(pubsub.publish, publication(made.node, "c", room=size))


@pytest.mark.parametrize(
    ("wanted", "expected", "index"),
    [
        ({}, "fedcba", 0),
        ({"limit": 2}, "fe", 0),
        ({"limit": 2, "after": "e"}, "dc", 2),
        ({"limit": 2, "before": "c"}, "ed", 1),
        ({"limit": 2, "before": ""}, "ba", 4),
        ({"since": NOW + 4}, "fe", 0),
        ({"ids": ["b", "zz", "e"]}, "eb", 0),
        ({"limit": 0}, "", 0),
    ],
)
async def test_pages(database: Database, wanted: dict[str, object], expected: str, index: int) -> None:
    made = await database.write(pubsub.publish, publication(new(), *"abcdef"))
    page = await database.read(pubsub.page, Wanted(made.node, **wanted))  # type: ignore[arg-type]
    assert ("".join(item.id for item in page.items), page.index, page.known) == (expected, index, True)
    assert not (await database.read(pubsub.page, Wanted(made.node, after="zz"))).known
    assert await database.read(pubsub.item_ids, made.node, 0, 3) == ["f", "e", "d"]


async def test_large_payloads_are_not_loaded_with_the_node(database: Database) -> None:
    await database.write(pubsub.publish, publication(new(), items=[("a", b"<v/>" * 3000)], room=50_000))
    [found] = await database.read(pubsub.load, ALICE.bare)
    assert (found.last, found.items, found.bytes) == (None, 1, 12_000)


async def test_retracting_leaves_the_newest_that_is_left(database: Database) -> None:
    made = await database.write(pubsub.publish, publication(new(), *"abc"))
    assert await database.read(pubsub.publishers, made.node, ["a", "zz"]) == {"a": BOB.bare}
    left = await database.write(pubsub.retract, made.node, ["c", "a"])
    assert (left.count, left.bytes, left.last) == (1, 18, made.items[1])
    left = await database.write(pubsub.retract, made.node, None)
    assert (left.count, left.bytes, left.last) == (0, 0, None)


async def test_items_expire(database: Database) -> None:
    timed = await database.write(pubsub.publish, publication(new("t", config=NodeConfig(item_expire=10)), "a", "b"))
    kept = await database.write(pubsub.publish, publication(new("k"), "a"))
    assert await database.write(pubsub.expire, NOW + 10_000_000) == []
    assert await database.write(pubsub.expire, NOW + 10_000_001) == [ALICE.bare]
    assert (await listed(database, timed.node), await listed(database, kept.node)) == ("b", "a")
    [_, found] = await database.read(pubsub.load, ALICE.bare)
    assert (found.items, found.bytes) == (1, 18)


async def test_of_a_cleared_host_nothing_is_left(database: Database) -> None:
    await database.write(pubsub.publish, publication(new(), "a"))
    other = await database.write(pubsub.create, new(host=BOB))
    await database.write(
        pubsub.affiliate, other, {ALICE.bare: Affiliation.MEMBER, "alice@a.examples": Affiliation.MEMBER}
    )
    for jid in ("alice@a.example", "alice@a.example/x", "alice@a.examples"):
        one = Subscription(JID.parse(jid), SubscriptionState.SUBSCRIBED)
        await database.write(pubsub.subscribe, other, [one])
    assert await database.read(pubsub.hosts_naming, ALICE.bare) == [BOB.bare]
    await database.write(pubsub.clear, ALICE.bare)
    assert await database.read(pubsub.load, ALICE.bare) == []
    assert await database.read(pubsub.hosts_naming, ALICE.bare) == []
    [found] = await database.read(pubsub.load, BOB.bare)
    assert list(found.subscriptions) == list(found.affiliations) == ["alice@a.examples"]
    await database.write(pubsub.remove, other)
    assert await database.read(pubsub.load, BOB.bare) == []
