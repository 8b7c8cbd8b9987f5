"""Publish-subscribe for publishers and subscribers (XEP-0060, XEP-0163): through the dispatcher."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.feature_settings import PubSubSettings
from homeserver.domain.pubsub import EventKind, NodeEvent
from homeserver.storage import pubsub as storage
from tests.kit.fakes import FakeSession
from tests.kit.pubsub import (
    SERVICE,
    P,
    ask,
    configure,
    create,
    done,
    fields,
    from_afar,
    ids,
    publish,
    said,
)
from tests.kit.world import World, world

ITEMS = "<items node='n'/>"
ALICE = "alice@a.example"


@pytest.fixture
async def alice(server: World) -> FakeSession:
    return await server.session("alice")


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    settings = PubSubSettings(
        nodes=2, items=3, item_bytes=1024, account_bytes=65_536, subscribers=2, subscriptions=1, service_nodes=3
    )
    async with world(tmp_path / "data" / "parley.db", pubsub_settings=settings) as found:
        yield found


def heard(server: World) -> list[NodeEvent]:
    events: list[NodeEvent] = []
    server.pubsub.on_event.append(events.append)
    return events


# --- publishing -----------------------------------------------------------------------------------------------------


async def test_an_item_is_published_and_read(server: World, alice: FakeSession) -> None:
    events = heard(server)
    answer = await done(server, alice, publish("n", "one", "<v xmlns='urn:test' a='&lt;&#10;'>t<w/>u</v>"))
    assert answer.find(f"{P}pubsub/{P}publish[@node='n']/{P}item[@id='one']") is not None
    answer = await ask(server, alice, "get", ITEMS)
    [item] = answer.iter(f"{P}item")
    assert item.attrib == {"id": "one", "publisher": ALICE}
    assert item[0].tag == "{urn:test}v"
    assert (item[0].get("a"), item[0].text, item[0][0].tail) == ("<\n", "t", "u")
    [event] = events
    assert (event.kind, event.host.bare, event.node, event.publisher) == (EventKind.PUBLISH, ALICE, "n", alice.jid)
    assert event.items[0].payload.startswith(b"<v xmlns='urn:test'")


async def test_an_id_is_made_where_there_is_none(server: World, alice: FakeSession) -> None:
    [made] = (await done(server, alice, publish("n", None))).iter(f"{P}item")
    assert made.get("id")
    assert ids(await ask(server, alice, "get", ITEMS)) == [made.get("id")]


async def test_of_one_item_the_newest_is_kept(server: World, alice: FakeSession) -> None:
    for item in ("a", "b"):
        await done(server, alice, publish("n", item))
    assert ids(await ask(server, alice, "get", ITEMS)) == ["b"]


async def test_the_same_id_replaces(server: World, alice: FakeSession) -> None:
    for item in ("a", "b", "a"):
        await done(server, alice, publish("n", item, f"<v xmlns='urn:test'>{item}</v>", max_items="max"))
    assert ids(await ask(server, alice, "get", ITEMS)) == ["a", "b"]


async def test_options_are_the_configuration_of_a_new_node(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish("n", access_model="whitelist", max_items="128", persist_items="true"))
    answer = await ask(server, alice, "get", "<configure node='n'/>", owner=True)
    found = fields(answer)
    assert (found["access_model"], found["max_items"], found["persist_items"]) == (["whitelist"], ["128"], ["1"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"access_model": "open"}, "result"),
        ({"access_model": "open", "max_items": "max"}, "result"),
        ({"access_model": "open", "max_items": "5000"}, "result"),
        ({"access_model": "open", "purge_offline": "false"}, "result"),
        ({"access_model": "whitelist"}, "conflict/cancel precondition-not-met"),
        ({"max_items": "1"}, "conflict/cancel precondition-not-met"),
        ({"purge_offline": "true"}, "conflict/cancel precondition-not-met"),
        ({"unheard_of": "1"}, "conflict/cancel precondition-not-met"),
        ({"access_model": "sometimes"}, "not-acceptable/modify unsupported-access-model"),
        ({"max_items": "none"}, "not-acceptable/modify"),
    ],
)
async def test_options_are_a_precondition_of_a_node_that_is_there(
    server: World, alice: FakeSession, options: dict[str, str], expected: str
) -> None:
    await done(server, alice, create("n", access_model="open", max_items="max"))
    assert said(await ask(server, alice, "set", publish("n", "x", **options))) == expected
    assert ids(await ask(server, alice, "get", ITEMS)) == (["x"] if expected == "result" else [])


@pytest.mark.parametrize(
    ("config", "content", "expected"),
    [
        ({}, "<publish><item/></publish>", "bad-request/modify nodeid-required"),
        ({}, "<publish node='n'/>", "bad-request/modify item-required"),
        ({}, "<publish node='n'><item/></publish>", "bad-request/modify payload-required"),
        ({}, "<publish node='n'><item><a/><b/></item></publish>", "bad-request/modify invalid-payload"),
        ({}, "<publish node='n'><item><a/></item><item><a/></item></publish>", "bad-request/modify"),
        ({"deliver_payloads": "0"}, "<publish node='n'><item/></publish>", "result"),
        ({"deliver_payloads": "0", "persist_items": "0"}, "<publish node='n'/>", "result"),
        (
            {"deliver_payloads": "0", "persist_items": "0"},
            "<publish node='n'><item><a/></item></publish>",
            "bad-request/modify item-forbidden",
        ),
        ({"persist_items": "0"}, "<publish node='n'/>", "bad-request/modify item-required"),
        (
            {"max_payload_size": "10"},
            "<publish node='n'><item><a/></item></publish>",
            "not-acceptable/modify payload-too-big",
        ),
        ({}, "<retract><item id='1'/></retract>", "bad-request/modify nodeid-required"),
        ({}, "<retract node='n'/>", "bad-request/modify item-required"),
        ({}, "<retract node='n'><item/></retract>", "bad-request/modify item-required"),
        ({}, "<retract node='n'><item id='none'/></retract>", "item-not-found/cancel"),
        ({}, "<retract node='other'><item id='1'/></retract>", "item-not-found/cancel"),
        (
            {"persist_items": "0"},
            "<retract node='n'><item id='1'/></retract>",
            "feature-not-implemented/cancel unsupported=persistent-items",
        ),
        ({}, "<options node='n' jid='alice@a.example'/>", "feature-not-implemented/cancel unsupported=subscription-options"),
        ({}, "<create node='n'/>", "conflict/cancel"),
        ({}, "<create node='m'/><configure node='m'/>", "bad-request/modify"),
        ({}, "<dance/>", "bad-request/modify"),
        ({}, "", "bad-request/modify"),
    ],
)  # fmt: skip
async def test_requests_against_the_rules(
    server: World, alice: FakeSession, config: dict[str, str], content: str, expected: str
) -> None:
    await done(server, alice, create("n", **config))
    assert said(await ask(server, alice, "set", content)) == expected


async def test_instant_nodes(server: World, alice: FakeSession) -> None:
    answer = await done(server, alice, "<create/>")
    [made] = answer.iter(f"{P}create")
    assert said(await ask(server, alice, "get", f"<items node='{made.get('node')}'/>")) == "result"


# --- reading --------------------------------------------------------------------------------------------------------


async def many(server: World, alice: FakeSession) -> None:
    for item in "abcde":
        await done(server, alice, publish("n", item, max_items="max"))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("<items node='n'/>", "edcba"),
        ("<items node='n' max_items='2'/>", "ed"),
        ("<items node='n'><item id='b'/><item id='zz'/><item id='d'/></items>", "db"),
        ("<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max></set>", "ed"),
        ("<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><after>d</after></set>", "cb"),
        ("<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before/></set>", "ba"),
        ("<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before>b</before></set>", "dc"),
        ("<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>0</max></set>", ""),
    ],
)
async def test_items_and_pages_of_them(server: World, alice: FakeSession, asked: str, expected: str) -> None:
    await many(server, alice)
    answer = await ask(server, alice, "get", asked)
    assert "".join(found or "" for found in ids(answer)) == expected
    rsm = answer.find(f"{P}pubsub/{{http://jabber.org/protocol/rsm}}set")
    assert (rsm is not None) == ("rsm" in asked)
    if rsm is not None:
        assert rsm.findtext("{http://jabber.org/protocol/rsm}count") == "5"
        first = rsm.find("{http://jabber.org/protocol/rsm}first")
        if first is not None:
            assert first.get("index") == str("edcba".index(expected[0]))


async def test_a_page_from_an_item_that_is_not_there(server: World, alice: FakeSession) -> None:
    await many(server, alice)
    asked = "<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><after>x</after></set>"
    assert said(await ask(server, alice, "get", asked)) == "item-not-found/cancel"


async def test_a_long_answer_is_a_page(server: World, alice: FakeSession) -> None:
    for item in range(8):
        await done(server, alice, publish("n", str(item), f"<v xmlns='urn:test'>{'x' * 180_000}</v>", max_items="max"))
    answer = await ask(server, alice, "get", ITEMS)
    assert ids(answer) == ["7", "6", "5", "4", "3"]
    rsm = answer.find(f"{P}pubsub/{{http://jabber.org/protocol/rsm}}set")
    assert rsm is not None
    assert rsm.findtext("{http://jabber.org/protocol/rsm}count") == "8"


async def test_expired_items_are_not_shown_and_removed(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish("n", "old", max_items="max", item_expire="60"))
    server.clock.advance(50)
    await done(server, alice, publish("n", "new"))
    server.clock.advance(20)
    assert ids(await ask(server, alice, "get", ITEMS)) == ["new"]
    await server.pubsub.hosts.expire(server.clock.now())
    server.clock.advance(-60)
    assert ids(await ask(server, alice, "get", ITEMS)) == ["new"]


async def test_items_are_retracted(server: World, alice: FakeSession) -> None:
    await many(server, alice)
    events = heard(server)
    await done(server, alice, "<retract node='n' notify='true'><item id='e'/></retract>")
    assert ids(await ask(server, alice, "get", "<items node='n' max_items='1'/>")) == ["d"]
    [event] = events
    assert (event.kind, [item.id for item in event.items], event.is_told) == (EventKind.RETRACT, ["e"], True)


# --- who may what ---------------------------------------------------------------------------------------------------

REFUSED = {
    "presence": "not-authorized/auth presence-subscription-required",
    "roster": "not-authorized/auth not-in-roster-group",
    "whitelist": "not-allowed/cancel closed-node",
    "authorize": "not-authorized/auth not-subscribed",
}


@pytest.mark.parametrize("model", ["open", *REFUSED])
async def test_strangers_read_what_is_open(server: World, alice: FakeSession, model: str) -> None:
    """S-70: every access model has its own refusal; here, and asked from another server."""
    expected = REFUSED.get(model, "result")
    await done(server, alice, publish("n", "x", access_model=model, roster_groups_allowed="Friends"))
    bob = await server.session("bob")
    for asked in (ITEMS, "<items node='n'><item id='x'/></items>"):
        for answer in (
            await ask(server, bob, "get", asked, ALICE),
            await from_afar(server, "romeo@far.example/r", "get", asked, ALICE),
        ):
            assert said(answer) == expected
            assert ids(answer) == (["x"] if expected == "result" else [])
    assert said(await ask(server, bob, "get", "<items node='none'/>", ALICE)) == "item-not-found/cancel"


@pytest.mark.parametrize(
    ("model", "expected"), [("presence", "result"), ("roster", REFUSED["roster"]), ("whitelist", REFUSED["whitelist"])]
)
async def test_contacts_read_what_is_for_contacts(server: World, alice: FakeSession, model: str, expected: str) -> None:
    await done(server, alice, publish("n", "x", access_model=model, roster_groups_allowed="Friends"))
    bob = await server.session("bob")
    await server.befriend("alice", "bob")
    assert said(await ask(server, bob, "get", ITEMS, ALICE)) == expected
    query = "<query xmlns='jabber:iq:roster'><item jid='bob@a.example'><group>Friends</group></item></query>"
    await server.iq(alice, f"<iq type='set' id='g'>{query}</iq>")
    if model == "roster":
        assert said(await ask(server, bob, "get", ITEMS, ALICE)) == "result"


@pytest.mark.parametrize(
    ("affiliation", "reads", "writes"),
    [
        ("owner", "result", "result"),
        ("publisher", "result", "result"),
        ("publish-only", "forbidden/auth", "result"),
        ("member", "result", "forbidden/auth"),
        ("none", "not-allowed/cancel closed-node", "forbidden/auth"),
        ("outcast", "forbidden/auth", "forbidden/auth"),
    ],
)
async def test_affiliations(server: World, alice: FakeSession, affiliation: str, reads: str, writes: str) -> None:
    """XEP-0060 s4.1, on a whitelist node."""
    await done(server, alice, publish("n", "x", access_model="whitelist", max_items="9"))
    change = f"<affiliations node='n'><affiliation jid='bob@a.example/x' affiliation='{affiliation}'/></affiliations>"
    await done(server, alice, change, owner=True)
    bob = await server.session("bob")
    assert said(await ask(server, bob, "get", ITEMS, ALICE)) == reads
    assert said(await ask(server, bob, "set", publish("n", "y"), ALICE)) == writes
    expected = "result" if affiliation == "owner" else "forbidden/auth"
    assert said(await ask(server, bob, "set", "<retract node='n'><item id='x'/></retract>", ALICE)) == expected
    if writes == "result":
        await done(server, bob, "<retract node='n'><item id='y'/></retract>", ALICE)
    assert said(await ask(server, bob, "set", configure("n", title="T"), ALICE, owner=True)) == expected
    answer = await ask(server, bob, "get", "<affiliations/>", ALICE)
    shown = [] if affiliation == "none" else [{"node": "n", "affiliation": affiliation}]
    assert [one.attrib for one in answer.iter(f"{P}affiliation")] == shown


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [
        ("open", "result", "result"),
        ("subscribers", "forbidden/auth", "result"),
        ("publishers",) + ("forbidden/auth",) * 2,
    ],
)
async def test_publish_models(server: World, alice: FakeSession, model: str, before: str, after: str) -> None:
    await done(server, alice, create("n", publish_model=model, access_model="open"))
    bob = await server.session("bob")
    assert said(await ask(server, bob, "set", publish("n"), ALICE)) == before
    await done(server, bob, "<subscribe node='n' jid='bob@a.example'/>", ALICE)
    assert said(await ask(server, bob, "set", publish("n"), ALICE)) == after


async def test_nobody_makes_nodes_of_somebody_else(server: World, alice: FakeSession) -> None:
    bob = await server.session("bob")
    assert said(await ask(server, bob, "set", create("n"), ALICE)) == "forbidden/auth"
    assert said(await ask(server, bob, "set", publish("n"), ALICE)) == "item-not-found/cancel"
    assert said(await from_afar(server, "romeo@far.example/r", "set", create("n"), ALICE)) == "forbidden/auth"
    assert said(await ask(server, bob, "get", ITEMS, "nobody@a.example")) == "service-unavailable/cancel"


# --- subscribing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(REFUSED)[:3])
async def test_who_may_not_read_may_not_subscribe(server: World, alice: FakeSession, model: str) -> None:
    await done(server, alice, create("n", access_model=model))
    bob = await server.session("bob")
    assert said(await ask(server, bob, "set", "<subscribe node='n' jid='bob@a.example'/>", ALICE)) == REFUSED[model]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<subscribe node='n' jid='alice@a.example'/>", "bad-request/modify invalid-jid"),
        ("<subscribe node='n' jid='@'/>", "jid-malformed/modify"),
        ("<subscribe node='n'/>", "bad-request/modify"),
        ("<subscribe jid='bob@a.example'/>", "bad-request/modify nodeid-required"),
        ("<subscribe node='m' jid='bob@a.example'/>", "item-not-found/cancel"),
        ("<subscribe node='n' jid='bob@a.example/phone'/>", "result"),
        (
            "<subscribe node='n' jid='bob@a.example'/><options/>",
            "feature-not-implemented/cancel unsupported=subscription-options",
        ),
        ("<unsubscribe node='n' jid='bob@a.example'/>", "unexpected-request/cancel not-subscribed"),
        ("<unsubscribe node='n' jid='alice@a.example'/>", "forbidden/auth"),
        ("<unsubscribe node='m' jid='bob@a.example'/>", "item-not-found/cancel"),
    ],
)
async def test_subscription_requests(server: World, alice: FakeSession, content: str, expected: str) -> None:
    await done(server, alice, create("n", access_model="open"))
    bob = await server.session("bob")
    assert said(await ask(server, bob, "set", content, ALICE)) == expected


async def test_a_subscription_gets_the_newest_item_and_the_events(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish("n", "x", access_model="open"))
    events = heard(server)
    asked = "<subscribe node='n' jid='romeo@far.example'/>"
    answer = await from_afar(server, "romeo@far.example/r", "set", asked, ALICE)
    [subscription] = answer.iter(f"{P}subscription")
    assert subscription.attrib == {"node": "n", "jid": "romeo@far.example", "subscription": "subscribed"}
    await done(server, alice, publish("n", "y"))
    last, published = events
    assert (last.kind, [item.id for item in last.items]) == (EventKind.LAST, ["x"])
    assert [str(jid) for jid in last.subscribers] == ["romeo@far.example"]
    assert [str(jid) for jid in published.subscribers] == ["romeo@far.example"]
    await done(server, alice, configure("n", access_model="whitelist"), owner=True)
    await done(server, alice, publish("n", "z"))
    assert events[-1].subscribers == ()
    answer = await from_afar(server, "romeo@far.example/r", "get", "<subscriptions/>", ALICE)
    assert len(list(answer.iter(f"{P}subscription"))) == 1
    asked = "<unsubscribe node='n' jid='romeo@far.example' subid='ignored'/>"
    assert said(await from_afar(server, "romeo@far.example/r", "set", asked, ALICE)) == "result"
    answer = await from_afar(server, "romeo@far.example/r", "get", "<subscriptions node='n'/>", ALICE)
    assert list(answer.iter(f"{P}subscription")) == []


async def test_subscriptions_that_need_approval(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish("n", "x", access_model="authorize"))
    bob = await server.session("bob")
    events = heard(server)
    asked = "<subscribe node='n' jid='bob@a.example'/>"
    [subscription] = (await done(server, bob, asked, ALICE)).iter(f"{P}subscription")
    assert subscription.get("subscription") == "pending"
    assert (events[0].kind, [str(jid) for jid in events[0].subscribers]) == (EventKind.REQUEST, [ALICE])
    assert said(await ask(server, bob, "set", asked, ALICE)) == "not-authorized/auth pending-subscription"
    assert said(await ask(server, bob, "get", ITEMS, ALICE)) == REFUSED["authorize"]
    approve = "<subscriptions node='n'><subscription jid='bob@a.example' subscription='subscribed'/></subscriptions>"
    assert said(await ask(server, bob, "set", approve, ALICE, owner=True)) == "forbidden/auth"
    await done(server, alice, approve, owner=True)
    assert [event.kind for event in events[1:]] == [EventKind.SUBSCRIPTION, EventKind.LAST]
    assert ids(await ask(server, bob, "get", ITEMS, ALICE)) == ["x"]


# --- quotas ---------------------------------------------------------------------------------------------------------


async def test_quotas(small: World) -> None:
    """S-145: what one account keeps is bounded in nodes, items, bytes of an item and bytes of all."""
    alice = await small.session("alice")
    for item in range(5):
        await done(small, alice, publish("n", str(item), max_items="max"))
    assert ids(await ask(small, alice, "get", ITEMS)) == ["4", "3", "2"]
    large = publish("n", "x", f"<v xmlns='urn:test'>{'x' * 1024}</v>")
    assert said(await ask(small, alice, "set", large)) == "not-acceptable/modify payload-too-big"
    await done(small, alice, create("m"))
    full = "resource-constraint/wait max-nodes-exceeded"
    assert said(await ask(small, alice, "set", create("o"))) == full
    assert said(await ask(small, alice, "set", publish("o"))) == full
    for name in ("bob", "carol", "dave"):
        session = await small.session(name)
        await done(small, session, create(name), SERVICE)
    assert said(await ask(small, alice, "set", create("o"), SERVICE)) == full


async def test_quota_of_bytes(tmp_path: Path) -> None:
    settings = PubSubSettings(item_bytes=40_000, account_bytes=65_536)
    async with world(tmp_path / "data" / "parley.db", pubsub_settings=settings) as server:
        alice = await server.session("alice")
        large = f"<v xmlns='urn:test'>{'x' * 35_000}</v>"
        await done(server, alice, publish("n", "1", large))
        await done(server, alice, publish("n", "2", large))
        answer = await ask(server, alice, "set", publish("m", "1", large))
        assert said(answer) == "resource-constraint/wait max-items-exceeded"
        assert said(await ask(server, alice, "get", "<items node='m'/>")) == "item-not-found/cancel"
        await done(server, alice, publish("m", "1"))


async def test_quota_of_subscriptions(small: World) -> None:
    alice = await small.session("alice")
    await done(small, alice, create("n", access_model="open"))
    await done(small, alice, create("m", access_model="open"))
    for who in ("one@far.example", "two@far.example"):
        asked = f"<subscribe node='n' jid='{who}'/>"
        assert said(await from_afar(small, f"{who}/r", "set", asked, ALICE)) == "result"
    many = "policy-violation/wait too-many-subscriptions"
    for who, node in (("three@far.example", "n"), ("one@far.example", "m")):
        asked = f"<subscribe node='{node}' jid='{who}'/>"
        assert said(await from_afar(small, f"{who}/r", "set", asked, ALICE)) == many


async def test_a_deleted_account_leaves_nothing(server: World, alice: FakeSession) -> None:
    bob = await server.session("bob")
    await done(server, alice, publish("n", access_model="open"))
    await done(server, bob, create("b", access_model="open"))
    await done(server, alice, "<subscribe node='b' jid='alice@a.example/phone'/>", "bob@a.example")
    await server.accounts.delete(ALICE)
    await server.pubsub.hosts.settle()
    assert said(await ask(server, bob, "get", ITEMS, ALICE)) == "service-unavailable/cancel"
    assert len(await server.pubsub.subscriptions.of_node(bob.account.jid, "b", bob.jid)) == 0
    assert await server.database.read(storage.load, ALICE) == []


# --- after a restart, and from memory -------------------------------------------------------------------------------


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "parley.db"
    async with world(path) as server:
        alice = await server.session("alice")
        await done(server, alice, publish("n", "x", access_model="open", max_items="7"))
        asked = "<subscribe node='n' jid='romeo@far.example'/>"
        await from_afar(server, "romeo@far.example/r", "set", asked, ALICE)
    async with world(path) as server:
        alice = await server.session("alice")
        events = heard(server)
        await done(server, alice, publish("n", "y", access_model="open", max_items="7"))
        assert ids(await ask(server, alice, "get", ITEMS)) == ["y", "x"]
        assert [str(jid) for jid in events[0].subscribers] == ["romeo@far.example"]


async def test_last_items_for_presence(server: World, alice: FakeSession) -> None:
    """XEP-0163 s4.3.4, by access model and ``send_last_published_item``."""
    await server.befriend("alice", "bob")
    bob = await server.account("bob")
    await done(server, alice, publish("mood", "1"))
    await done(server, alice, publish("private", "2", access_model="whitelist"))
    await done(server, alice, publish("quiet", "3", send_last_published_item="on_sub"))
    await done(server, alice, publish("big", "4", f"<v xmlns='urn:test'>{'x' * 20_000}</v>"))
    names = ("mood", "private", "quiet", "big", "none")
    for asker, expected in ((bob.jid, ["1", "4"]), (alice.jid, ["1", "2", "4"])):
        found = await server.pubsub.last_items(alice.account, asker, names)
        assert [item.id for _, item in found] == expected
    carol = await server.account("carol")
    assert await server.pubsub.last_items(alice.account, carol.jid, names) == []
