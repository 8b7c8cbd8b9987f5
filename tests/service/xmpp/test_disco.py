"""Service discovery and the server's capabilities (XEP-0030, XEP-0115, XEP-0128)."""

from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import verification_string
from homeserver.protocol.xml import element
from homeserver.xmpp.caps import Caps
from homeserver.xmpp.catalogue import Identity
from tests.kit.fakes import FakeSession, wire
from tests.kit.world import World

INFO = "{http://jabber.org/protocol/disco#info}"
ITEMS = "{http://jabber.org/protocol/disco#items}"


async def info(server: World, session: FakeSession, to: str, node: str = "") -> Element:
    attribute = f" node='{node}'" if node else ""
    target = f" to='{to}'" if to else ""
    return await server.iq(session, f"<iq type='get' id='d'{target}><query xmlns='{INFO[1:-1]}'{attribute}/></iq>")


async def items(server: World, session: FakeSession, to: str, node: str = "") -> Element:
    attribute = f" node='{node}'" if node else ""
    return await server.iq(session, f"<iq type='get' id='d' to='{to}'><query xmlns='{ITEMS[1:-1]}'{attribute}/></iq>")


def features(answer: Element) -> set[str]:
    return {found.get("var", "") for found in answer.iter(f"{INFO}feature")}


def identities(answer: Element) -> set[tuple[str | None, str | None]]:
    return {(found.get("category"), found.get("type")) for found in answer.iter(f"{INFO}identity")}


def condition(answer: Element) -> str:
    error = answer.find("{jabber:client}error")
    assert error is not None
    return error[0].tag.rpartition("}")[2]


async def test_a_domain_says_what_was_built(server: World) -> None:
    alice = await server.session("alice")
    answer = await info(server, alice, "a.example")
    assert answer.get("from") == "a.example"
    assert identities(answer) == {("server", "im")}
    assert features(answer) >= {
        ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.TIME, ns.VERSION, ns.LAST_ACTIVITY, ns.REGISTER, ns.CAPS, ns.ROSTER,
    }  # fmt: skip
    assert ns.CARBONS not in features(answer)


async def test_an_account_answers_itself_and_its_subscribers(server: World) -> None:
    """S-77: for others it is as if it were not there."""
    alice = await server.session("alice")
    await server.account("bob")
    server.catalogue.add_account_identity(Identity("pubsub", "pep"))
    for own in ("", "alice@a.example"):
        answer = await info(server, alice, own)
        assert identities(answer) == {("account", "registered"), ("pubsub", "pep")}
    strangers = [await info(server, alice, f"{name}@a.example") for name in ("bob", "nobody")]
    assert [condition(answer) for answer in strangers] == ["service-unavailable"] * 2
    await server.befriend("alice", "bob")
    assert ("account", "registered") in identities(await info(server, alice, "bob@a.example"))
    assert condition(await items(server, alice, "nobody@a.example")) == "service-unavailable"


async def test_items_of_a_domain_are_its_own(server: World) -> None:
    alice = await server.session("alice")
    server.catalogue.add_item("a.example", "groups.a.example", "Groups")
    server.catalogue.add_item("b.example", "groups.b.example", "Groups")
    answer = await items(server, alice, "a.example")
    assert [found.get("jid") for found in answer.iter(f"{ITEMS}item")] == ["groups.a.example"]
    assert len(list((await items(server, alice, "alice@a.example")).iter(f"{ITEMS}item"))) == 0


async def test_a_node_nobody_knows(server: World) -> None:
    alice = await server.session("alice")
    for to in ("a.example", "alice@a.example"):
        assert condition(await info(server, alice, to, "what")) == "item-not-found"
        assert condition(await items(server, alice, to, "what")) == "item-not-found"
    assert condition(await info(server, alice, "a.example", "x" * 4000)) == "bad-request"


async def test_a_feature_answers_for_its_node(server: World) -> None:
    async def answer(request: object, node: str) -> Element | None:
        return element(ns.DISCO_ITEMS, "query") if node == "commands" else None

    server.catalogue.item_nodes.append(answer)
    alice = await server.session("alice")
    found = await items(server, alice, "a.example", "commands")
    assert found[0].get("node") == "commands"


async def test_the_hash_in_the_stream_features_is_that_of_the_answer(server: World) -> None:
    form = element(ns.DATA_FORM, "x", {"type": "result"})
    server.catalogue.add_form(lambda domain: form if domain == "a.example" else None)
    caps = next(built for built in server.features if isinstance(built, Caps))
    mark = caps.element("a.example")
    assert mark.get("hash") == "sha-1"
    alice = await server.session("alice")
    answer = await info(server, alice, "a.example", f"{mark.get('node')}#{mark.get('ver')}")
    assert answer[0].get("node") == f"{mark.get('node')}#{mark.get('ver')}"
    assert answer[0].find("{jabber:x:data}x") is not None
    assert verification_string(answer[0]) == mark.get("ver")
    server.catalogue.add_domain_identity(Identity("proxy", "test"))
    assert caps.element("a.example").get("ver") != mark.get("ver")


def test_the_simple_example_of_the_specification() -> None:
    """XEP-0115 s5.2."""
    query = wire(
        b"<query xmlns='http://jabber.org/protocol/disco#info'>"
        b"<identity category='client' name='Exodus 0.9.1' type='pc'/>"
        b"<feature var='http://jabber.org/protocol/muc'/><feature var='http://jabber.org/protocol/disco#items'/>"
        b"<feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/caps'/></query>"
    )
    assert verification_string(query) == "QgayPKawpkPSDYmwT/WM94uAlu0="


def test_the_complex_example_of_the_specification() -> None:
    """XEP-0115 s5.3: identities in two languages and a form."""
    query = wire(
        "<query xmlns='http://jabber.org/protocol/disco#info'>"
        "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>"
        "<identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>"
        "<feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>"
        "<feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>"
        "<x xmlns='jabber:x:data' type='result'>"
        "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>"
        "<field var='ip_version'><value>ipv4</value><value>ipv6</value></field>"
        "<field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1</value></field>"
        "<field var='software'><value>Psi</value></field><field var='software_version'><value>0.11</value></field>"
        "</x></query>".encode()
    )
    assert verification_string(query) == "q07IKJEyjvHSyhy//CH0CxmKi8w="
