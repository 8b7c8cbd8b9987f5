"""What service discovery and the stream features promise is there."""

import ssl
from typing import Any

import pytest
import slixmpp
from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ET

from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import verification_string
from homeserver.protocol.xml import Element
from tests.e2e.conftest import MakeNode
from tests.kit.client_stream import RawClient
from tests.kit.node import HOST, ParleyServer
from tests.kit.server import Account
from tests.kit.slix import PLUGINS, LoginRefused, Slix

DISCO = f"{{{ns.DISCO_INFO}}}"
MAM = f"{{{ns.ARCHIVE}}}"


def slix(node: ParleyServer, name: str, **options: Any) -> Slix:
    return Slix(node.endpoint, next(found for found in node.accounts if found.local == name), **options)


async def raw(node: ParleyServer, name: str, mechanism: str = "SCRAM-SHA-256") -> RawClient:
    """Logged in with SASL2 and Bind 2."""
    client = RawClient(HOST, node.ports.xmpp, node.domain)
    await client.connect()
    await client.open()
    await client.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
    await client.authenticate2(name, f"secret-{name}", mechanism, inline=f"<bind xmlns='{ns.BIND2}'/>")
    return client


async def test_the_hash_of_the_stream_features_is_that_of_the_answer(node: ParleyServer) -> None:
    client = await raw(node, "ann")
    caps = client.features.find(f"{{{ns.CAPS}}}c")
    assert caps is not None
    named = f"{caps.get('node')}#{caps.get('ver')}"
    answer = await client.request("get", f"<query xmlns='{ns.DISCO_INFO}' node='{named}'/>", node.domain)
    query = answer[0]
    assert query.get("node") == named
    assert verification_string(query) == caps.get("ver")
    async with slix(node, "bob") as bob:
        info = await bob.plugin(30).get_info(jid=slixmpp.JID(node.domain), timeout=10)
        assert bob.plugin(115).generate_verstring(info["disco_info"], "sha-1") == caps.get("ver")
    client.abort()


async def test_every_simple_feature_answers(node: ParleyServer) -> None:
    client = await raw(node, "ann")
    questions = {
        ns.PING: ("get", f"<ping xmlns='{ns.PING}'/>"),
        ns.TIME: ("get", f"<time xmlns='{ns.TIME}'/>"),
        ns.VERSION: ("get", f"<query xmlns='{ns.VERSION}'/>"),
        ns.LAST_ACTIVITY: ("get", f"<query xmlns='{ns.LAST_ACTIVITY}'/>"),
        ns.DISCO_INFO: ("get", f"<query xmlns='{ns.DISCO_INFO}'/>"),
        ns.DISCO_ITEMS: ("get", f"<query xmlns='{ns.DISCO_ITEMS}'/>"),
        ns.ROSTER: ("get", f"<query xmlns='{ns.ROSTER}'/>"),
        ns.REGISTER: ("get", f"<query xmlns='{ns.REGISTER}'/>"),
        ns.CARBONS: ("set", f"<enable xmlns='{ns.CARBONS}'/>"),
        ns.ARCHIVE: ("get", f"<query xmlns='{ns.ARCHIVE}'/>"),
        ns.ARCHIVE_EXTENDED: ("get", f"<metadata xmlns='{ns.ARCHIVE}'/>"),
    }
    await client.send("<presence/>")
    own = {ns.ROSTER, ns.CARBONS, ns.ARCHIVE, ns.ARCHIVE_EXTENDED}  # asked without an address
    for address in (node.domain, f"ann@{node.domain}"):
        answer = await client.request("get", f"<query xmlns='{ns.DISCO_INFO}'/>", address)
        offered = {found.get("var", "") for found in answer[0].findall(f"{DISCO}feature")}
        assert {ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.LAST_ACTIVITY, ns.CARBONS, ns.ARCHIVE} <= offered
        for feature in offered & questions.keys():
            kind, payload = questions[feature]
            answer = await client.request(kind, payload, "" if feature in own else address)
            assert answer.get("type") == "result", (address, feature)
    client.abort()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
async def test_channel_binding(node: ParleyServer, mechanism: str) -> None:
    client = await raw(node, "ann", mechanism)
    binding = client.mechanisms(sasl2=True)
    assert client.jid.startswith("ann@"), binding
    client.abort()


async def test_the_roster_is_sent_only_when_it_changed(node: ParleyServer) -> None:
    client = await raw(node, "ann")
    assert client.features.find(f"{{{ns.ROSTER_VERSIONING}}}ver") is not None
    query = (await client.request("get", f"<query xmlns='{ns.ROSTER}' ver=''/>"))[0]
    again = await client.request("get", f"<query xmlns='{ns.ROSTER}' ver='{query.get('ver')}'/>")
    assert len(again) == 0
    item = "<item jid='cat@parley.example' name='Cat'/>"
    await client.request("set", f"<query xmlns='{ns.ROSTER}'>{item}</query>")
    later = (await client.request("get", f"<query xmlns='{ns.ROSTER}' ver='{query.get('ver')}'/>"))[0]
    assert [found.get("name") for found in later] == ["Cat"]
    client.abort()


async def test_a_subscription_that_was_granted_beforehand(node: ParleyServer) -> None:
    async with slix(node, "bob") as bob, slix(node, "cat") as cat:
        bob.xmpp.send_presence(pto="cat@parley.example", ptype="subscribed")
        await bob.settled()
        cat.xmpp.send_presence_subscription(pto="bob@parley.example", ptype="subscribe")
        await cat.sees(bob.jid, "available")
        assert [seen for seen in bob.presences if seen["type"] == "subscribe"] == []


async def test_pages_and_filters_of_the_archive(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "cat"])
    await node.start()
    async with slix(node, "bob") as bob, slix(node, "cat") as cat:
        for number in range(25):
            (cat if number % 5 == 4 else bob).say("ann@parley.example", str(number))
            await (cat if number % 5 == 4 else bob).settled()
        full = bob.jid
    async with slix(node, "ann", presence=False) as ann:
        archive = ann.plugin(313)
        numbers = [str(number) for number in range(25)]
        pages = [page async for page in archive.retrieve(iterator=True, rsm={"max": 10})]
        assert [shown(page) for page in pages] == [numbers[:10], numbers[10:20], numbers[20:]]
        ids = [found["id"] for found in await ann.history(rsm={"max": 100})]
        back = [page async for page in archive.retrieve(iterator=True, reverse=True, rsm={"max": 10})]
        assert [shown(page) for page in back] == [numbers[15:], numbers[5:15], numbers[:5]]
        assert await ann.texts(rsm={"max": 3, "before": ids[10]}) == numbers[7:10]
        assert await ann.texts(rsm={"max": 3, "after": ids[10]}) == numbers[11:14]
        assert await ann.texts("cat@parley.example") == numbers[4::5]
        assert await ann.texts(full, rsm={"max": 2}) == numbers[:2]
        with pytest.raises(IqError) as refused:
            await ann.texts(rsm={"after": "17"})
        assert refused.value.condition == "item-not-found"
    client = await raw(node, "ann")
    fields = {"after-id": ids[2], "before-id": ids[6]}
    assert await answered(client, fields) == numbers[3:6]
    assert await answered(client, fields, "<flip-page/>") == numbers[3:6][::-1]
    assert await answered(client, {"ids": [ids[20], ids[4]]}) == [numbers[4], numbers[20]]
    metadata = (await client.request("get", f"<metadata xmlns='{ns.ARCHIVE}'/>"))[0]
    bounds = {found.tag.removeprefix(MAM): found for found in metadata}
    assert (bounds["start"].get("id"), bounds["end"].get("id")) == (ids[0], ids[-1])
    start, end = bounds["start"].get("timestamp", ""), bounds["end"].get("timestamp", "")
    assert await answered(client, {"start": start, "end": end}) == numbers
    assert await answered(client, {"end": start}) == numbers[:1]
    client.abort()


def shown(page: Any) -> list[str]:
    """The bodies of a page of results."""
    return [str(found["mam_result"]["forwarded"]["stanza"]["body"]) for found in page["mam"]["results"]]


async def answered(client: RawClient, fields: dict[str, Any], more: str = "") -> list[str]:
    """The bodies of a query with these fields of the form, as they come."""
    form = f"<field var='FORM_TYPE' type='hidden'><value>{ns.ARCHIVE}</value></field>"
    for name, found in fields.items():
        values = found if isinstance(found, list) else [found]
        form += f"<field var='{name}'>{''.join(f'<value>{value}</value>' for value in values)}</field>"
    query = f"<query xmlns='{ns.ARCHIVE}' queryid='q'><x xmlns='{ns.DATA_FORM}' type='submit'>{form}</x>{more}</query>"
    await client.send(f"<iq type='set' id='mam'>{query}</iq>")
    bodies: list[str] = []
    while True:
        found: Element = await client.recv_stanza()
        if found.get("id") == "mam":
            assert found.get("type") == "result", ET.tostring(found)
            return bodies
        body = found.findtext(f"{MAM}result/{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message/{{{ns.CLIENT}}}body")
        if body is not None:
            bodies.append(body)


async def test_slixmpp_makes_changes_and_removes_an_account(make_node: MakeNode) -> None:
    node = make_node([], extra={"accounts": {"registration": "open"}})
    await node.start()
    account = Account("bill@parley.example", "Calliope 99")
    client = Slix(node.endpoint, account, plugins=PLUGINS)

    async def register(_form: object) -> None:
        iq = client.xmpp.Iq()
        iq["type"] = "set"
        iq["register"]["username"] = account.local
        iq["register"]["password"] = account.password
        await iq.send(timeout=10)

    client.plugin(77).force_registration = True
    client.xmpp.add_event_handler("register", register)
    async with client:
        await client.plugin(77).change_password("Terpsichore 100", timeout=10)
    with pytest.raises(LoginRefused):
        async with Slix(node.endpoint, account):
            pass
    changed = Account(account.jid, "Terpsichore 100")
    async with Slix(node.endpoint, changed) as again:
        await again.plugin(77).cancel_registration(timeout=10)
        await again.cut_off()
    with pytest.raises(LoginRefused):
        async with Slix(node.endpoint, changed):
            pass
