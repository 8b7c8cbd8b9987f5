"""What a running server says of itself is true: every address names what is declared, nothing else, and all of it answers."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import verification_string
from homeserver.protocol.xml import Element
from homeserver.xmpp import protocols
from homeserver.xmpp.pubsub_features import SERVICE_FEATURES
from tests.e2e.conftest import MakeNode
from tests.kit.client_stream import RawClient
from tests.kit.component import Echo, add_component
from tests.kit.node import HOST, ParleyServer
from tests.kit.server import free_port

BOT = "bot.parley.example"
NODE = "urn:example:truth"
LOOKED_FOR = {
    "domain": {
        ns.CARBONS, ns.BLOCKING, ns.REPORTING, ns.REPORT_SPAM_LEGACY, ns.COMMANDS, ns.REGISTER, ns.EXTERNAL_SERVICES, ns.VCARD,
        ns.PING, ns.LAST_ACTIVITY, ns.VERSION, ns.DISCO_INFO, ns.DISCO_ITEMS,
    },
    "account": {
        ns.ARCHIVE, ns.ARCHIVE_EXTENDED, ns.STANZA_ID, ns.PUSH, ns.PUBSUB, ns.BOOKMARKS_COMPAT,
        ns.BOOKMARKS_COMPAT_PEP, ns.BOOKMARKS_CONVERSION, ns.AVATAR_CONVERSION,
        ns.DISPLAYED_ASSIST,
        *(f"{ns.PUBSUB}#{name}" for name in (
            "publish", "retrieve-items", "item-ids", "multi-items", "config-node-max", "persistent-items", "publish-options",
            "access-open", "access-whitelist", "access-presence", "access-roster", "auto-create", "auto-subscribe",
            "filtered-notifications", "last-published", "delete-items", "delete-nodes", "retract-items", "create-nodes",
            "config-node", "meta-data",
        )),
    },
}  # fmt: skip
"""Where Conversations, Monal, Dino, Gajim, converse.js and Profanity look for a feature; elsewhere it counts as absent."""
BEFORE_LOGIN = {
    f"{{{ns.REGISTER_FEATURE}}}register", f"{{{ns.INVITATION}}}register", f"{{{ns.INVITATION_LEGACY}}}register",
    f"{{{ns.SASL}}}mechanisms", f"{{{ns.SASL2}}}authentication", f"{{{ns.SASL_CHANNEL_BINDING}}}sasl-channel-binding",
    f"{{{ns.STREAM_LIMITS}}}limits",
}  # fmt: skip
AFTER_LOGIN = {
    f"{{{ns.BIND}}}bind", f"{{{ns.SESSION}}}session", f"{{{ns.STREAM_MANAGEMENT}}}sm", f"{{{ns.CLIENT_STATE}}}csi",
    f"{{{ns.ROSTER_VERSIONING}}}ver", f"{{{ns.PRE_APPROVAL}}}sub", f"{{{ns.STREAM_LIMITS}}}limits", f"{{{ns.CAPS}}}c",
}  # fmt: skip


class Ask(NamedTuple):
    """The least that can be asked of a feature. ``to``: "here" is the address that advertises it, "" is no address."""

    kind: str
    payload: str
    to: str = "here"


def _owner(payload: str) -> str:
    return f"<pubsub xmlns='{ns.PUBSUB_OWNER}'>{payload}</pubsub>"


def _pubsub(payload: str) -> str:
    return f"<pubsub xmlns='{ns.PUBSUB}'>{payload}</pubsub>"


def _form(kind: str) -> str:
    return f"<x xmlns='{ns.DATA_FORM}' type='submit'><field var='FORM_TYPE' type='hidden'><value>{kind}</value></field></x>"


ASKS: dict[str, tuple[Ask, ...]] = {
    ns.DISCO_INFO: (Ask("get", f"<query xmlns='{ns.DISCO_INFO}'/>"),),
    ns.DISCO_ITEMS: (Ask("get", f"<query xmlns='{ns.DISCO_ITEMS}'/>"),),
    ns.PING: (Ask("get", f"<ping xmlns='{ns.PING}'/>"),),
    ns.TIME: (Ask("get", f"<time xmlns='{ns.TIME}'/>"),),
    ns.VERSION: (Ask("get", f"<query xmlns='{ns.VERSION}'/>"),),
    ns.LAST_ACTIVITY: (Ask("get", f"<query xmlns='{ns.LAST_ACTIVITY}'/>"),),
    ns.ROSTER: (Ask("get", f"<query xmlns='{ns.ROSTER}'/>", ""),),
    ns.REGISTER: (Ask("get", f"<query xmlns='{ns.REGISTER}'/>"),),
    ns.SEARCH: (Ask("get", f"<query xmlns='{ns.SEARCH}'/>"),),
    ns.EXTERNAL_SERVICES: (Ask("get", f"<services xmlns='{ns.EXTERNAL_SERVICES}'/>"),),
    ns.CARBONS: (Ask("set", f"<enable xmlns='{ns.CARBONS}'/>", ""), Ask("set", f"<disable xmlns='{ns.CARBONS}'/>", "")),
    ns.BLOCKING: (
        Ask("get", f"<blocklist xmlns='{ns.BLOCKING}'/>", ""),
        Ask("set", f"<block xmlns='{ns.BLOCKING}'><item jid='x@far.example'/></block>", ""),
        Ask("set", f"<unblock xmlns='{ns.BLOCKING}'/>", ""),
    ),
    ns.REPORTING: (
        Ask(
            "set",
            f"<block xmlns='{ns.BLOCKING}'><item jid='y@far.example'>"
            f"<report xmlns='{ns.REPORTING}' reason='{ns.REPORT_SPAM}'/></item></block>",
            "",
        ),
    ),
    ns.REPORTING_LEGACY: (
        Ask(
            "set",
            f"<block xmlns='{ns.BLOCKING}'><item jid='z@far.example'>"
            f"<report xmlns='{ns.REPORTING_LEGACY}'><abuse/></report></item></block>",
            "",
        ),
    ),
    ns.ARCHIVE: (
        Ask("get", f"<query xmlns='{ns.ARCHIVE}'/>", ""),
        Ask("set", f"<query xmlns='{ns.ARCHIVE}'/>", ""),
        Ask("get", f"<prefs xmlns='{ns.ARCHIVE}'/>", ""),
    ),
    ns.ARCHIVE_EXTENDED: (Ask("get", f"<metadata xmlns='{ns.ARCHIVE}'/>", ""),),
    ns.INBOX: (Ask("get", f"<inbox xmlns='{ns.INBOX}'/>", ""),),
    ns.PUSH: (
        Ask("set", f"<enable xmlns='{ns.PUSH}' jid='push.far.example' node='n'/>", ""),
        Ask("set", f"<disable xmlns='{ns.PUSH}' jid='push.far.example'/>", ""),
    ),
    ns.UPLOAD: (Ask("get", f"<request xmlns='{ns.UPLOAD}' filename='a.txt' size='1'/>"),),
    ns.VCARD: (Ask("get", f"<vCard xmlns='{ns.VCARD}'/>"),),
    ns.PRIVATE: (Ask("get", f"<query xmlns='{ns.PRIVATE}'><a xmlns='urn:example:a'/></query>", ""),),
    f"{ns.PUBSUB}#create-nodes": (Ask("set", _pubsub("<create node='urn:example:plain'/>")),),
    f"{ns.PUBSUB}#create-and-configure": (
        Ask("set", _pubsub(f"<create node='{NODE}'/><configure>{_form(ns.PUBSUB_NODE_CONFIG)}</configure>")),
    ),
    f"{ns.PUBSUB}#instant-nodes": (Ask("set", _pubsub("<create/>")),),
    f"{ns.PUBSUB}#config-node": (Ask("get", _owner(f"<configure node='{NODE}'/>")),),
    f"{ns.PUBSUB}#retrieve-default": (Ask("get", _owner("<default/>")),),
    f"{ns.PUBSUB}#publish": (
        Ask("set", _pubsub(f"<publish node='{NODE}'><item id='1'><a xmlns='urn:example:a'/></item></publish>")),
    ),
    f"{ns.PUBSUB}#publish-options": (
        Ask(
            "set",
            _pubsub(
                f"<publish node='{NODE}'><item id='2'><a xmlns='urn:example:a'/></item></publish>"
                f"<publish-options>{_form(ns.PUBSUB_PUBLISH_OPTIONS)}</publish-options>"
            ),
        ),
    ),
    f"{ns.PUBSUB}#retrieve-items": (Ask("get", _pubsub(f"<items node='{NODE}'/>")),),
    f"{ns.PUBSUB}#rsm": (
        Ask("get", _pubsub(f"<items node='{NODE}'/><set xmlns='{ns.RESULT_SET}'><max>1</max></set>")),
    ),
    f"{ns.PUBSUB}#meta-data": (Ask("get", f"<query xmlns='{ns.DISCO_INFO}' node='{NODE}'/>"),),
    f"{ns.PUBSUB}#subscribe": (Ask("set", _pubsub(f"<subscribe node='{NODE}' jid='{{me}}'/>")),),
    f"{ns.PUBSUB}#retrieve-subscriptions": (Ask("get", _pubsub("<subscriptions/>")),),
    f"{ns.PUBSUB}#retrieve-affiliations": (Ask("get", _pubsub("<affiliations/>")),),
    f"{ns.PUBSUB}#modify-affiliations": (
        Ask("get", _owner(f"<affiliations node='{NODE}'/>")),
        Ask(
            "set",
            _owner(
                f"<affiliations node='{NODE}'><affiliation jid='x@far.example' affiliation='member'/></affiliations>"
            ),
        ),
    ),
    f"{ns.PUBSUB}#manage-subscriptions": (Ask("get", _owner(f"<subscriptions node='{NODE}'/>")),),
    f"{ns.PUBSUB}#retract-items": (Ask("set", _pubsub(f"<retract node='{NODE}'><item id='2'/></retract>")),),
    f"{ns.PUBSUB}#purge-nodes": (Ask("set", _owner(f"<purge node='{NODE}'/>")),),
    f"{ns.PUBSUB}#delete-nodes": (Ask("set", _owner(f"<delete node='{NODE}'/>")),),
}
"""Each has to be answered by a result, in this order."""
QUALITIES = {
    ns.COMMANDS, ns.CAPS, ns.CARBONS_RULES, ns.FULL_TEXT, ns.OFFLINE, ns.PUBSUB, ns.REPORT_ABUSE_LEGACY,
    ns.REPORT_SPAM_LEGACY, ns.RESULT_SET, ns.RETRACTION, ns.RETRACTION_TOMBSTONE, ns.STANZA_ID,
    *(f"{ns.UPLOAD_PURPOSE}#{name}" for name in ("message", "ephemeral")),
    ns.ADDRESSES, ns.VCARD4, ns.BOOKMARKS_COMPAT,
    ns.BOOKMARKS_COMPAT_PEP, ns.BOOKMARKS_CONVERSION, ns.AVATAR_CONVERSION,
    ns.DISPLAYED_ASSIST,
    *(f"{ns.PUBSUB}#{name}" for name in (
        "access-authorize", "access-open", "access-presence", "access-roster", "access-whitelist", "auto-create",
        "auto-subscribe", "config-node-max", "delete-items", "filtered-notifications", "item-ids", "last-published",
        "member-affiliation", "multi-items", "outcast-affiliation", "persistent-items", "presence-notifications",
        "presence-subscribe", "publish-only-affiliation", "publisher-affiliation", "subscription-notifications",
    )),
}  # fmt: skip
"""What says how something is done, and is no question of its own. Commands have a test of their own."""


OF_WHAT_IS_THERE = {"urn:parley:commands#cancel-shutdown"} | {
    f"http://jabber.org/protocol/admin#{verb}-{name}" for verb in ("edit", "delete") for name in ("motd", "welcome")
}
"""Commands about what a new server does not have: a notice, a shutdown under way."""


def declared(place: int) -> set[str]:
    return set().union(*(pair[place] for pair in protocols.advertised().values()))


@pytest.fixture
def component() -> int:
    """The port for components."""
    return free_port(HOST)


@pytest.fixture
async def node(make_node: MakeNode, component: int) -> ParleyServer:
    made = make_node(
        ["ann", "bob", "cat"],
        extra={
            "accounts": {"directory": "members", "registration": "open"},
            "[external_service]": {"type": "stun", "host": HOST, "port": 3478},
        },
    )
    add_component(made, BOT, component)
    await made.start()
    return made


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str) -> AsyncIterator[RawClient]:
    made = RawClient(HOST, node.ports.xmpp, node.domain)
    try:
        await made.connect()
        await made.open()
        await made.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
        await made.authenticate2(name, f"secret-{name}", inline=f"<bind xmlns='{ns.BIND2}'/>")
        yield made
    finally:
        made.abort()


async def info(asker: RawClient, to: str, node: str = "") -> Element:
    named = f" node='{node}'" if node else ""
    answer = await asker.request("get", f"<query xmlns='{ns.DISCO_INFO}'{named}/>", to)
    assert answer.get("type") == "result", (to, conditions(answer))
    return answer[0]


async def items(asker: RawClient, to: str, node: str = "") -> list[dict[str, str]]:
    named = f" node='{node}'" if node else ""
    answer = await asker.request("get", f"<query xmlns='{ns.DISCO_ITEMS}'{named}/>", to)
    assert answer.get("type") == "result", (to, conditions(answer))
    return [dict(item.attrib) for item in answer[0]]


def features(query: Element) -> set[str]:
    every = [found.get("var", "") for found in query.findall(f"{{{ns.DISCO_INFO}}}feature")]
    assert len(every) == len(set(every))
    return set(every)


def identities(query: Element) -> set[tuple[str, str]]:
    return {(one.get("category", ""), one.get("type", "")) for one in query.findall(f"{{{ns.DISCO_INFO}}}identity")}


def conditions(answer: Element) -> set[str]:
    return {part.tag.rpartition("}")[2] for error in answer.iter(f"{{{ns.CLIENT}}}error") for part in error}


async def check_answers(asker: RawClient, to: str, offered: set[str]) -> None:
    """Everything that is offered at an address answers there."""
    unknown = offered - set(ASKS) - QUALITIES
    assert unknown == set(), "not in the tables of this test"
    for feature, ask in ((name, ask) for name, asks in ASKS.items() if name in offered for ask in asks):
        payload = ask.payload.replace("{me}", asker.jid.partition("/")[0])
        answer = await asker.request(ask.kind, payload, to if ask.to else "")
        assert answer.get("type") == "result", (to, feature, conditions(answer))


async def test_a_domain(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        query = await info(ann, node.domain)
        assert identities(query) == {("server", "im")}
        assert features(query) == declared(0)
        assert LOOKED_FOR["domain"] <= features(query)
        listed = {item["jid"] for item in await items(ann, node.domain)}
        assert listed == {f"upload.{node.domain}", f"pubsub.{node.domain}", BOT}
        await check_answers(ann, node.domain, features(query))
        caps = ann.features.find(f"{{{ns.CAPS}}}c")
        assert caps is not None
        assert caps.get("ver") == verification_string(query)
        named = f"{caps.get('node')}#{caps.get('ver')}"
        again = await info(ann, node.domain, named)
        assert (again.get("node"), verification_string(again)) == (named, caps.get("ver"))


async def test_commands_of_a_domain(node: ParleyServer) -> None:
    await node.run_command("account", "role", f"ann@{node.domain}", "admin")
    for name in ("ann", "bob"):
        async with client(node, name) as asker:
            listed = await items(asker, node.domain, ns.COMMANDS)
            assert listed
            for command in listed:
                described = await info(asker, node.domain, command["node"])
                assert ("automation", "command-node") in identities(described)
                answer = await asker.request(
                    "set", f"<command xmlns='{ns.COMMANDS}' node='{command['node']}'/>", node.domain
                )
                if command["node"] in OF_WHAT_IS_THERE:
                    assert "item-not-found" in conditions(answer)
                    continue
                assert answer.get("type") == "result", (name, command, conditions(answer))
                if answer[0].get("status") == "executing":
                    session = f"node='{command['node']}' sessionid='{answer[0].get('sessionid')}'"
                    ended = await asker.request(
                        "set", f"<command xmlns='{ns.COMMANDS}' {session} action='cancel'/>", node.domain
                    )
                    assert ended[0].get("status") == "canceled"


async def test_the_own_account(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        jid = f"ann@{node.domain}"
        query = await info(ann, jid)
        assert identities(query) == {("account", "registered"), ("pubsub", "pep")}
        assert features(query) == declared(1)
        assert LOOKED_FOR["account"] <= features(query)
        assert await items(ann, jid) == []
        await ann.send("<presence/>")  # the last activity of who was never there is not known
        await check_answers(ann, jid, features(query))
        assert {"urn:example:plain"} <= {item.get("node") for item in await items(ann, jid)}


async def test_another_account(node: ParleyServer) -> None:
    async with client(node, "ann") as ann, client(node, "bob") as bob:
        jid = f"ann@{node.domain}"
        for name in ("ann", "nobody"):
            answer = await bob.request("get", f"<query xmlns='{ns.DISCO_INFO}'/>", f"{name}@{node.domain}")
            assert (answer.get("type"), conditions(answer)) == ("error", {"service-unavailable"})
        for stream in (ann, bob):
            await stream.request("get", f"<query xmlns='{ns.ROSTER}'/>")
            await stream.send("<presence/>")
        await bob.send(f"<presence to='{jid}' type='subscribe'/>")
        await ann.expect(lambda found: found.get("type") == "subscribe")
        await ann.send(f"<presence to='bob@{node.domain}' type='subscribed'/>")
        await bob.expect(lambda found: found.get("type") == "subscribed")
        query = await info(bob, jid)
        assert identities(query) == {("account", "registered"), ("pubsub", "pep")}
        assert features(query) == declared(1)
        for feature in (ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.LAST_ACTIVITY):
            answer = await bob.request(ASKS[feature][0].kind, ASKS[feature][0].payload, jid)
            assert answer.get("type") == "result", (feature, conditions(answer))


async def test_the_upload_service(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        to = f"upload.{node.domain}"
        query = await info(ann, to)
        assert identities(query) == {("store", "file")}
        purposes = {f"{ns.UPLOAD_PURPOSE}#{name}" for name in ("message", "ephemeral")}
        assert features(query) == {ns.DISCO_INFO, ns.DISCO_ITEMS, ns.UPLOAD, *purposes}
        assert "max-file-size" in {field.get("var") for field in query.iter(f"{{{ns.DATA_FORM}}}field")}
        assert await items(ann, to) == []
        await check_answers(ann, to, features(query))


async def test_the_pubsub_service(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        to = f"pubsub.{node.domain}"
        query = await info(ann, to)
        assert identities(query) == {("pubsub", "service")}
        assert features(query) == {ns.DISCO_INFO, ns.DISCO_ITEMS, *SERVICE_FEATURES}
        assert await items(ann, to) == []
        await check_answers(ann, to, features(query))


async def test_a_component(node: ParleyServer, component: int) -> None:
    async with client(node, "ann") as ann:
        async with Echo(BOT, component):
            query = await info(ann, BOT)
            assert identities(query) == {("client", "bot")}
            assert ns.PING in features(query)
            answer = await ann.request("get", f"<ping xmlns='{ns.PING}'/>", BOT)
            assert answer.get("type") == "result"
        answer = await ann.request("get", f"<query xmlns='{ns.DISCO_INFO}'/>", BOT)
        assert answer.get("type") == "error"  # nobody speaks for it


async def test_streams(node: ParleyServer) -> None:
    def tags(stream: RawClient) -> Iterator[str]:
        return (part.tag for part in stream.features)

    stream = RawClient(HOST, node.ports.xmpp, node.domain)
    try:
        await stream.connect()
        await stream.open()
        await stream.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
        assert set(tags(stream)) == BEFORE_LOGIN
        for sasl2 in (False, True):
            scram = {f"SCRAM-SHA-{size}{plus}" for size in (1, 256, 512) for plus in ("", "-PLUS")}
            assert set(stream.mechanisms(sasl2)) == scram | {"PLAIN"}
        await stream.authenticate("ann", "secret-ann")
        assert set(tags(stream)) == AFTER_LOGIN
    finally:
        stream.abort()
    async with client(node, "ann") as bound:
        assert set(tags(bound)) == AFTER_LOGIN - {f"{{{ns.BIND}}}bind", f"{{{ns.SESSION}}}session"}
