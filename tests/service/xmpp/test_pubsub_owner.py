"""Publish-subscribe for owners (XEP-0060 s8), and the service of a domain."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.feature_settings import PubSubSettings
from homeserver.domain.accounts import Role
from homeserver.domain.pubsub import EventKind, NodeEvent
from tests.kit.fakes import FakeSession
from tests.kit.pubsub import (
    SERVICE,
    O,
    P,
    X,
    ask,
    configure,
    create,
    done,
    fields,
    form,
    from_afar,
    ids,
    publish,
    said,
)
from tests.kit.world import World, world

ALICE = "alice@a.example"
CLOSED = "forbidden/auth"
ABSENT = "item-not-found/cancel"


@pytest.fixture
async def alice(server: World) -> FakeSession:
    return await server.session("alice")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("get", "<configure node='{}'/>"),
        ("get", "<affiliations node='{}'/>"),
        ("get", "<subscriptions node='{}'/>"),
        ("set", "<configure node='{}'>" + form("node_config", {}) + "</configure>"),
        ("set", "<affiliations node='{}'/>"),
        ("set", "<subscriptions node='{}'/>"),
        ("set", "<purge node='{}'/>"),
        ("set", "<delete node='{}'/>"),
    ],
)
async def test_owners_only(server: World, alice: FakeSession, kind: str, content: str) -> None:
    await done(server, alice, create("n", access_model="open"))
    bob = await server.session("bob")
    assert said(await ask(server, bob, kind, content.format("n"), ALICE, owner=True)) == CLOSED
    answer = await from_afar(server, "romeo@far.example/r", kind, content.format("n"), ALICE, owner=True)
    assert said(answer) == CLOSED
    assert said(await ask(server, alice, kind, content.format("none"), owner=True)) == ABSENT
    nameless = content.replace(" node='{}'", "")
    assert said(await ask(server, alice, kind, nameless, owner=True)) == "bad-request/modify nodeid-required"
    assert said(await ask(server, alice, kind, content.format("n"), owner=True)) == "result"


async def test_a_configuration_is_changed_by_its_own_form(server: World, alice: FakeSession) -> None:
    """What an owner is shown can be sent back as it is; values that are changed are kept."""
    await done(server, alice, create("n"))
    answer = await ask(server, alice, "get", "<configure node='n'/>", owner=True)
    shown = {name: tuple(values) for name, values in fields(answer).items() if name != "FORM_TYPE" and values}
    assert shown["access_model"] == ("presence",)
    assert shown["max_items"] == ("1",)
    await done(server, alice, configure("n", **shown), owner=True)
    changed: dict[str, object] = {
        "access_model": "roster",
        "roster_groups_allowed": ("Friends", "Work & <Play>".replace("&", "&amp;").replace("<", "&lt;")),
        "publish_model": "open",
        "send_last_published_item": "never",
        "max_items": "7",
        "item_expire": "3600",
        "max_payload_size": "1000",
        "notify_config": "true",
        "notify_delete": "0",
        "notify_retract": "false",
        "deliver_payloads": "1",
        "notification_type": "normal",
        "itemreply": "publisher",
        "title": "A title",
        "description": "What it is",
        "type": "urn:test",
    }
    events: list[NodeEvent] = []
    server.pubsub.on_event.append(events.append)
    await done(server, alice, configure("n", **changed, unheard_of="1"), owner=True)
    assert [(event.kind, event.is_told) for event in events] == [(EventKind.CONFIGURE, True)]
    answer = await ask(server, alice, "get", "<configure node='n'/>", owner=True)
    found = fields(answer)
    assert found["roster_groups_allowed"] == ["Friends", "Work & <Play>"]
    flags = {"true": "1", "false": "0"}
    for name, value in changed.items():
        if isinstance(value, str):
            assert found[name] == [flags.get(value, value)], name


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"access_model": "nobody"}, "not-acceptable/modify unsupported-access-model"),
        ({"publish_model": "nobody"}, "not-acceptable/modify"),
        ({"send_last_published_item": "often"}, "not-acceptable/modify"),
        ({"max_items": "0"}, "not-acceptable/modify"),
        ({"max_items": "-1"}, "not-acceptable/modify"),
        ({"max_items": "99999999"}, "result"),
        ({"item_expire": "soon"}, "not-acceptable/modify"),
        ({"persist_items": "maybe"}, "not-acceptable/modify"),
        ({"notification_type": "chat"}, "not-acceptable/modify"),
        ({"title": "x" * 5000}, "not-acceptable/modify"),
    ],
)
async def test_configurations_that_are_not_taken(
    server: World, alice: FakeSession, config: dict[str, str], expected: str
) -> None:
    await done(server, alice, create("n"))
    assert said(await ask(server, alice, "set", configure("n", **config), owner=True)) == expected
    assert said(await ask(server, alice, "set", create("m", **config))) == expected


async def test_fewer_items_drop_the_oldest(server: World, alice: FakeSession) -> None:
    for item in "abc":
        await done(server, alice, publish("n", item, max_items="max"))
    await done(server, alice, configure("n", max_items="2"), owner=True)
    assert ids(await ask(server, alice, "get", "<items node='n'/>")) == ["c", "b"]


async def test_a_cancelled_form_changes_nothing(server: World, alice: FakeSession) -> None:
    await done(server, alice, create("n"))
    await done(server, alice, "<configure node='n'><x xmlns='jabber:x:data' type='cancel'/></configure>", owner=True)
    empty = "<configure node='n'/>"
    assert said(await ask(server, alice, "set", empty, owner=True)) == "bad-request/modify"


async def test_purge_and_delete(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish("n"))
    events: list[NodeEvent] = []
    server.pubsub.on_event.append(events.append)
    await done(server, alice, "<purge node='n'/>", owner=True)
    assert ids(await ask(server, alice, "get", "<items node='n'/>")) == []
    await done(server, alice, "<delete node='n'><redirect uri='xmpp:x@y.example?;node=z'/></delete>", owner=True)
    assert said(await ask(server, alice, "get", "<items node='n'/>")) == ABSENT
    assert [(event.kind, event.redirect) for event in events] == [
        (EventKind.PURGE, ""),
        (EventKind.DELETE, "xmpp:x@y.example?;node=z"),
    ]
    await done(server, alice, create("n", persist_items="0"))
    answer = await ask(server, alice, "set", "<purge node='n'/>", owner=True)
    assert said(answer) == "feature-not-implemented/cancel unsupported=persistent-items"


async def test_affiliations_are_listed_and_taken_back(server: World, alice: FakeSession) -> None:
    await done(server, alice, create("n"))
    both = "".join(f"<affiliation jid='{who}@far.example' affiliation='member'/>" for who in ("one", "two"))
    await done(server, alice, f"<affiliations node='n'>{both}</affiliations>", owner=True)
    back = "<affiliation jid='one@far.example' affiliation='none'/><affiliation jid='two@far.example'/>"
    await done(server, alice, f"<affiliations node='n'>{back}</affiliations>", owner=True)
    answer = await ask(server, alice, "get", "<affiliations node='n'/>", owner=True)
    assert [one.attrib for one in answer.iter(f"{O}affiliation")] == [
        {"jid": ALICE, "affiliation": "owner"},
        {"jid": "two@far.example", "affiliation": "member"},
    ]
    for bad in (f"<affiliation jid='{ALICE}' affiliation='none'/>", "<affiliation jid='x@y' affiliation='king'/>"):
        answer = await ask(server, alice, "set", f"<affiliations node='n'>{bad}</affiliations>", owner=True)
        assert said(answer) == "not-acceptable/modify"


async def test_subscriptions_are_managed(server: World, alice: FakeSession) -> None:
    await done(server, alice, create("n"))
    both = "".join(f"<subscription jid='{who}@far.example' subscription='subscribed'/>" for who in ("one", "two"))
    await done(server, alice, f"<subscriptions node='n'>{both}</subscriptions>", owner=True)
    back = "<subscription jid='one@far.example' subscription='none'/><subscription jid='two@far.example'/>"
    await done(server, alice, f"<subscriptions node='n'>{back}</subscriptions>", owner=True)
    answer = await ask(server, alice, "get", "<subscriptions node='n'/>", owner=True)
    assert [one.get("jid") for one in answer.iter(f"{O}subscription")] == ["two@far.example"]


# --- the service ----------------------------------------------------------------------------------------------------


async def test_a_node_at_the_service(server: World, alice: FakeSession) -> None:
    await done(server, alice, create("news", max_items="max", title="News"), SERVICE)
    await done(server, alice, publish("news", "1"), SERVICE)
    bob = await server.session("bob")
    assert ids(await ask(server, bob, "get", "<items node='news'/>", SERVICE)) == ["1"]
    assert said(await ask(server, bob, "set", publish("news", "2"), SERVICE)) == CLOSED
    answer = await from_afar(server, "romeo@far.example/r", "get", "<items node='news'/>", SERVICE)
    assert ids(answer) == ["1"]
    assert answer.get("from") == SERVICE
    answer = await ask(server, alice, "get", "<affiliations/>", SERVICE)
    assert [one.attrib for one in answer.iter(f"{P}affiliation")] == [{"node": "news", "affiliation": "owner"}]
    resign = f"<affiliations node='news'><affiliation jid='{ALICE}' affiliation='none'/></affiliations>"
    assert said(await ask(server, alice, "set", resign, SERVICE, owner=True)) == "not-acceptable/modify"
    for model in ("presence", "roster"):
        answer = await ask(server, alice, "set", create("x", access_model=model), SERVICE)
        assert said(answer) == "not-acceptable/modify unsupported-access-model"
    answer = await ask(server, alice, "get", "<default/>", SERVICE, owner=True)
    assert fields(answer)["access_model"] == ["open"]
    options = [
        one.text
        for field in answer.iter(f"{X}field")
        if field.get("var") == "pubsub#access_model"
        for one in field.iterfind(f"{X}option/{X}value")
    ]
    assert options == ["authorize", "open", "whitelist"]


async def test_strangers_make_no_nodes_at_the_service(server: World) -> None:
    assert said(await from_afar(server, "romeo@far.example/r", "set", create("n"), SERVICE)) == CLOSED
    assert said(await from_afar(server, "romeo@far.example/r", "set", publish("n"), SERVICE)) == ABSENT


@pytest.fixture(params=["members", "operators", "nobody"])
async def restricted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[World, str]]:
    settings = PubSubSettings(creators=request.param)
    async with world(tmp_path / "data" / "parley.db", pubsub_settings=settings) as found:
        yield found, request.param


async def test_who_makes_nodes_is_a_setting(restricted: tuple[World, str]) -> None:
    server, creators = restricted
    roles = {"member": ("members",), "operator": ("members", "operators"), "guest": ()}
    for role, wanted in roles.items():
        session = await server.session(role)
        await server.accounts.set_role(session.jid.bare, Role(role))
        expected = "result" if creators in wanted else CLOSED
        assert said(await ask(server, session, "set", create(role), SERVICE)) == expected
        assert said(await ask(server, session, "set", create(role))) == "result"


# --- discovery ------------------------------------------------------------------------------------------------------

INFO, ITEMS = (f"http://jabber.org/protocol/disco#{part}" for part in ("info", "items"))


async def discover(server: World, who: FakeSession, namespace: str, to: str, node: str = "") -> list[dict[str, str]]:
    named = f" node='{node}'" if node else ""
    answer = await server.iq(who, f"<iq type='get' id='d' to='{to}'><query xmlns='{namespace}'{named}/></iq>")
    return [said_of.attrib for said_of in answer[0]] if answer.get("type") == "result" else [{"": said(answer)}]


async def test_an_account_is_a_service_of_its_own(server: World, alice: FakeSession) -> None:
    found = await discover(server, alice, INFO, ALICE)
    assert {"category": "pubsub", "type": "pep"} in found
    features = {one.get("var", "").rpartition("#")[2] for one in found}
    assert {
        "publish", "retrieve-items", "item-ids", "multi-items", "config-node-max", "persistent-items", "publish-options",
        "access-open", "access-whitelist", "access-presence", "access-roster", "auto-create", "auto-subscribe",
        "filtered-notifications", "last-published", "delete-items", "delete-nodes", "retract-items", "create-nodes",
        "config-node", "meta-data",
    } <= features  # fmt: skip


async def test_who_asks_sees_what_it_may_read(server: World, alice: FakeSession) -> None:
    for model in ("open", "presence", "whitelist", "authorize"):
        await done(server, alice, publish(model, "i", access_model=model, title=f"T{model}"))
    await server.befriend("alice", "bob")
    bob = await server.session("bob")
    seen = [(one.get("node"), one.get("name")) for one in await discover(server, bob, ITEMS, ALICE)]
    assert seen == [("authorize", "Tauthorize"), ("open", "Topen"), ("presence", "Tpresence")]
    assert len(await discover(server, alice, ITEMS, ALICE)) == 4
    assert await discover(server, bob, ITEMS, ALICE, "presence") == [{"jid": ALICE, "name": "i"}]
    assert await discover(server, bob, INFO, ALICE, "whitelist") == [{"": ABSENT}]
    carol = await server.session("carol")
    assert await discover(server, carol, ITEMS, ALICE) == [{"": "service-unavailable/cancel"}]


async def test_meta_data(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish("n", title="T", type="urn:test"))
    query = f"<query xmlns='{INFO}' node='n'/>"
    answer = await server.iq(alice, f"<iq type='get' id='d' to='{ALICE}'>{query}</iq>")
    assert answer[0].get("node") == "n"
    assert answer[0][0].attrib == {"category": "pubsub", "type": "leaf"}
    found = fields(answer)
    assert (found["title"], found["type"], found["owner"], found["creator"]) == (["T"], ["urn:test"], [ALICE], [ALICE])
    assert found["creation_date"] == ["2025-11-20T00:53:20Z"]


async def test_the_service_in_discovery(server: World, alice: FakeSession) -> None:
    await done(server, alice, create("news", title="News"), SERVICE)
    found = await discover(server, alice, INFO, SERVICE)
    assert found[0] == {"category": "pubsub", "type": "service", "name": "Publish-subscribe"}
    assert await discover(server, alice, ITEMS, SERVICE) == [{"jid": SERVICE, "node": "news", "name": "News"}]
    assert (await discover(server, alice, INFO, SERVICE, "news"))[0] == {"category": "pubsub", "type": "leaf"}
    assert await discover(server, alice, ITEMS, SERVICE, "none") == [{"": ABSENT}]
