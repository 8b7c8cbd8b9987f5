"""Blocked contacts, enumeration from inside, and quotas, against a real node: S-77, S-79, S-144, S-145."""

from xml.etree.ElementTree import Element

import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode
from tests.e2e.test_threats_identity import account, client, from_, jid_of, told
from tests.kit.node import ParleyServer
from tests.kit.wire import Wire, header, plain, wire

MAM = f"<iq type='set' id='mam'><query xmlns='{ns.ARCHIVE}'/></iq>"


async def ask(peer: Wire, text: str) -> Element:
    """The one IQ that answers."""
    await peer.send(text.encode())
    (answer,) = [part for part in from_(await told(peer), "iq") if part.get("type") in ("result", "error")]
    return answer


def conditions(answer: Element) -> list[str]:
    return [part.tag.rpartition("}")[2] for error in answer.iter(f"{{{ns.CLIENT}}}error") for part in error]


async def befriend(node: ParleyServer, one: Wire, first: str, other: Wire, second: str) -> None:
    for asker, own, answerer, peer in ((one, first, other, second), (other, second, one, first)):
        await asker.send(f"<presence to='{peer}@{node.domain}' type='subscribe'/>".encode())
        await told(asker)
        await answerer.send(f"<presence to='{own}@{node.domain}' type='subscribed'/>".encode())
        await told(answerer)
    await told(one), await told(other)


async def test_s79_nothing_of_a_blocked_contact_arrives(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with (
        client(node, "ann", "phone") as phone,
        client(node, "ann", "tablet") as tablet,
        client(node, "bob", "x") as bob,
    ):
        for session in (phone, tablet):
            await ask(session, f"<iq type='set' id='c'><enable xmlns='{ns.CARBONS}'/></iq>")
        await befriend(node, phone, "ann", bob, "bob")
        await ask(
            phone, f"<iq type='set' id='b'><block xmlns='{ns.BLOCKING}'><item jid='bob@{node.domain}'/></block></iq>"
        )
        await told(phone), await told(tablet), await told(bob)
        for to in (f"ann@{node.domain}", jid_of(node, "ann", "phone")):
            for kind in ("chat", "normal", "headline"):
                await bob.send(f"<message to='{to}' type='{kind}'><body>still here</body></message>".encode())
            await bob.send(f"<presence to='{to}'/><presence to='{to}' type='subscribe'/>".encode())
            await bob.send(f"<presence to='{to}' type='probe'/><presence to='{to}' type='unavailable'/>".encode())
            await bob.send(f"<iq to='{to}' type='get' id='q'><ping xmlns='{ns.PING}'/></iq>".encode())
            await bob.send(f"<iq to='{to}' type='get' id='d'><query xmlns='{ns.DISCO_INFO}'/></iq>".encode())
        await bob.send(b"<presence><show>chat</show></presence>")
        answers = await told(bob)
        assert from_(answers, "presence", "ann@") == []
        assert {part.get("type") for part in answers if part.get("from", "").startswith("ann@")} == {"error"}
        assert len(from_(answers, "message", "ann@")) == 6
        for session in (phone, tablet):
            assert await told(session) == []
        await phone.send(MAM.encode())
        heard = await told(phone)
        assert [part.tag.rpartition("}")[2] for part in heard] == ["iq"]


@pytest.mark.parametrize(
    "stanza",
    [
        "<message to='{to}' type='chat'><body>x</body></message>",
        "<message to='{to}' type='groupchat'><body>x</body></message>",
        f"<iq to='{{to}}' type='get' id='i'><ping xmlns='{ns.PING}'/></iq>",
        f"<iq to='{{to}}' type='get' id='i'><query xmlns='{ns.DISCO_INFO}'/></iq>",
        f"<iq to='{{to}}' type='set' id='i'><query xmlns='{ns.ARCHIVE}'/></iq>",
        f"<iq to='{{to}}' type='get' id='i'><prefs xmlns='{ns.ARCHIVE}'/></iq>",
        f"<iq to='{{to}}' type='get' id='i'><blocklist xmlns='{ns.BLOCKING}'/></iq>",
        f"<iq to='{{to}}' type='get' id='i'><query xmlns='{ns.ROSTER}'/></iq>",
        f"<iq to='{{to}}' type='get' id='i'><query xmlns='{ns.LAST_ACTIVITY}'/></iq>",
    ],
)
async def test_s77_who_is_blocked_or_a_stranger_cannot_tell_who_exists(node: ParleyServer, stanza: str) -> None:
    async with client(node, "cat") as cat, client(node, "ann") as ann:
        block = f"<iq type='set' id='b'><{{0}} xmlns='{ns.BLOCKING}'><item jid='ann@{node.domain}'/></{{0}}></iq>"
        await ask(cat, block.format("block"))
        answers = []
        for name in ("cat", "nobody"):
            await ann.send(stanza.format(to=f"{name}@{node.domain}").encode())
            answers.append([(part.get("type"), conditions(part)) for part in await told(ann)])
        await ask(cat, block.format("unblock"))
        if "type='chat'" not in stanza:
            await ann.send(stanza.format(to=f"cat@{node.domain}").encode())
            answers.append([(part.get("type"), conditions(part)) for part in await told(ann)])
    assert answers[0] == [("error", ["service-unavailable"])]
    assert all(answer == answers[0] for answer in answers)


async def test_s144_sessions_of_one_account_are_bounded(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"sessions_per_account": 3}})
    await node.start()
    async with client(node, "ann"), client(node, "ann"), client(node, "ann") as third, wire(node.endpoint) as more:
        await more.send(header(node.domain))
        await more.until(b"</stream:features>")
        await more.send(plain(account(node, "ann")))
        await more.until(b"<success")
        await more.send(header(node.domain))
        await more.until(b"</stream:features>")
        await more.send(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>".encode())
        assert b"resource-constraint" in await more.until(b"resource-constraint")
        await told(third)
        async with client(node, "bob"):
            pass


async def test_s145_contacts_blocks_and_what_waits_are_bounded(make_node: MakeNode) -> None:
    extra = {"contacts": {"items": 3}, "privacy": {"blocked": 3, "archive_exceptions": 3}, "archive": {"waiting": 3}}
    node = make_node(["ann", "bob"], extra=extra)
    await node.start()
    async with client(node, "ann") as ann:
        told_of: dict[str, list[list[str]]] = {"roster": [], "block": []}
        for number in range(4):
            jid = f"u{number}@far.example"
            item = f"<iq type='set' id='r'><query xmlns='{ns.ROSTER}'><item jid='{jid}'/></query></iq>"
            told_of["roster"].append(conditions(await ask(ann, item)))
            block = f"<iq type='set' id='b'><block xmlns='{ns.BLOCKING}'><item jid='{jid}'/></block></iq>"
            told_of["block"].append(conditions(await ask(ann, block)))
        for answers in told_of.values():
            assert answers[:3] == [[]] * 3
            assert answers[3][0] == "resource-constraint"
        listed = "".join(f"<jid>u{number}@far.example</jid>" for number in range(4))
        prefs = (
            f"<iq type='set' id='p'><prefs xmlns='{ns.ARCHIVE}' default='always'><never>{listed}</never></prefs></iq>"
        )
        assert conditions(await ask(ann, prefs))[0] == "not-acceptable"
        refused: list[list[str]] = []
        sent = 0
        while not refused and sent < 5000:  # a ping may overtake the commit of many messages before it
            sent += 1
            await ann.send(f"<message to='bob@{node.domain}' type='chat'><body>x</body></message>".encode())
            refused = [conditions(part) for part in await told(ann)]
        assert refused == [["resource-constraint", "text"]]
        async with client(node, "bob"):
            await ann.send(f"<message to='bob@{node.domain}' type='chat'><body>y</body></message>".encode())
            assert await told(ann) == []
