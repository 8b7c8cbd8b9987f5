"""Clients that speak for others or about what is not theirs, against a real node: S-60 to S-77."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element, fromstring

import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.node import ParleyServer
from tests.kit.server import Account
from tests.kit.wire import CLOSE, Wire, header, plain, stream_error, wire

ORIGIN_ID = "urn:xmpp:sid:0"
OCCUPANT_ID = "urn:xmpp:occupant-id:0"
FORWARD = "urn:xmpp:forward:0"


def account(node: ParleyServer, name: str) -> Account:
    return next(one for one in node.accounts if one.local == name)


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str, resource: str = "", presence: bool = True) -> AsyncIterator[Wire]:
    """A logged in client, available unless told otherwise; its resource is new for every test."""
    async with wire(node.endpoint) as peer:
        await peer.login(node.domain, account(node, name), resource or f"r{secrets.token_hex(4)}")
        if presence:
            await peer.send(b"<presence/>")
            await passed(peer, peer, name, node)
        await peer.ping("ready", timeout=20)
        peer.heard = b""
        yield peer


async def passed(sender: Wire, listener: Wire, name: str, node: ParleyServer) -> None:
    """Until the listener, a client of ``name``, heard all that the sender sent before."""
    marker = f"marker-{secrets.token_hex(6)}"
    to = f"{name}@{node.domain}"
    await sender.send(f"<message to='{to}' type='headline'><body>{marker}</body></message>".encode())
    while marker.encode() not in listener.heard:
        assert await listener.until(marker.encode(), timeout=20)


def jid_of(node: ParleyServer, name: str, resource: str) -> str:
    return f"{name}@{node.domain}/{resource}"


async def told(peer: Wire, name: str = "told") -> list[Element]:
    """Everything the client heard since the last call, after the server answered a ping."""
    begun = len(peer.heard)
    await peer.ping(name, timeout=20)
    text = peer.heard.removesuffix(CLOSE)
    peer.heard = peer.heard[:0]
    assert begun <= len(text)
    parts = fromstring(f"<s xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>".encode() + text + b"</s>")
    return [part for part in parts if part.get("id") != name and "marker-" not in "".join(part.itertext())]


def from_(parts: list[Element], name: str, sender: str = "") -> list[Element]:
    return [part for part in parts if part.tag == f"{{{ns.CLIENT}}}{name}" and part.get("from", "").startswith(sender)]


@pytest.mark.parametrize(
    "stanza",
    [
        "<message from='{forged}' to='bob@{domain}' type='chat'><body>forged</body></message>",
        "<presence from='{forged}' to='bob@{domain}/seen'/>",
        "<iq from='{forged}' to='bob@{domain}' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
    ],
    ids=["S-60 message", "S-61 presence", "S-61 iq"],
)
@pytest.mark.parametrize("forged", ["cat@{domain}", "cat@{domain}/x", "{domain}", "cat@elsewhere.example", "@", "ann"])
async def test_s60_nobody_speaks_in_the_name_of_another(node: ParleyServer, stanza: str, forged: str) -> None:
    name = forged.format(domain=node.domain)
    async with client(node, "bob", "seen") as bob, client(node, "ann") as ann:
        await ann.send(stanza.format(forged=name, domain=node.domain).encode())
        if stream_error(await ann.rest(timeout=20)) == "invalid-from":
            assert [part for part in await told(bob) if part.get("from", "").startswith(name)] == []
            return
        pytest.fail("the stream goes on")


async def test_s60_the_own_address_in_any_spelling_may_be_said(node: ParleyServer) -> None:
    async with client(node, "bob", "seen") as bob, client(node, "ann", "own") as ann:
        for sender in ("ann@{}", "ann@{}/own", "ANN@{}"):
            said = sender.format(node.domain)
            await ann.send(f"<message from='{said}' to='bob@{node.domain}/seen'><body>x</body></message>".encode())
        await passed(ann, bob, "bob", node)
        senders = [part.get("from") for part in from_(await told(bob), "message")]
    assert senders == [jid_of(node, "ann", "own")] * 3


@pytest.mark.parametrize(
    "iq",
    [
        "<iq type='get' id='bad'/>",
        "<iq type='set' id='bad'/>",
        "<iq type='what' id='bad'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq id='bad'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='get' id='bad'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
    ],
)
@pytest.mark.parametrize("to", ["", "{domain}", "bob@{domain}"])
async def test_s62_ill_formed_queries(node: ParleyServer, iq: str, to: str) -> None:
    async with client(node, "ann") as ann:
        wanted = to.format(domain=node.domain)
        await ann.send(iq.replace("<iq", f"<iq to='{wanted}'" if wanted else "<iq").encode())
        answers = from_(await told(ann), "iq")
    assert [answer.get("type") for answer in answers] == ["error"]
    assert answers[0].find(f".//{{{ns.STANZA_ERRORS}}}bad-request") is not None


BAD_JIDS = (
    "@", "@{domain}", "bob@", "bob@{domain}/", "/x", "bob@@{domain}", "b ob@{domain}", "b&amp;ob@{domain}", "bob@-x-",
    "bob@{domain}/&#x2028;\u2028", "bob\u00a0@{domain}", "x" * 1100 + "@{domain}", "bob@" + "x" * 1100,
)  # fmt: skip


@pytest.mark.parametrize("to", BAD_JIDS, ids=range(len(BAD_JIDS)))
@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
async def test_s63_ill_formed_addresses(node: ParleyServer, to: str, kind: str) -> None:
    inner = {"message": "<body>x</body>", "presence": "", "iq": "<ping xmlns='urn:xmpp:ping'/>"}[kind]
    attributes = " type='get'" if kind == "iq" else ""
    async with client(node, "ann") as ann:
        await ann.send(f"<{kind} to='{to.format(domain=node.domain)}' id='bad'{attributes}>{inner}</{kind}>".encode())
        answers = from_(await told(ann), kind)
    assert [answer.get("type") for answer in answers] == ["error"]
    assert answers[0].find(f".//{{{ns.STANZA_ERRORS}}}jid-malformed") is not None


@pytest.mark.parametrize(
    "wrapper",
    [
        "<received xmlns='{carbons}'>{inner}</received>",
        "<sent xmlns='{carbons}'>{inner}</sent>",
        "<result xmlns='{archive}' queryid='q' id='1'>{inner}</result>",
    ],
    ids=["S-64 received", "S-64 sent", "S-65 archive"],
)
async def test_s64_wrappers_that_only_a_server_writes(node: ParleyServer, wrapper: str) -> None:
    inner = (
        f"<forwarded xmlns='{FORWARD}'><message xmlns='{ns.CLIENT}' from='cat@{node.domain}/x' "
        f"to='bob@{node.domain}'><body>forged</body></message></forwarded>"
    )
    said = wrapper.format(carbons=ns.CARBONS, archive=ns.ARCHIVE, inner=inner)
    async with client(node, "bob", "seen") as bob, client(node, "ann") as ann:
        await ann.send(f"<message to='bob@{node.domain}/seen' type='chat'><body>true</body>{said}</message>".encode())
        await passed(ann, bob, "bob", node)
        messages = from_(await told(bob), "message")
    assert [message.get("from", "").partition("/")[0] for message in messages] == [f"ann@{node.domain}"]
    assert messages[0].find(f".//{{{FORWARD}}}forwarded") is None
    assert messages[0].findtext(f"{{{ns.CLIENT}}}body") == "true"


async def test_s66_ids_and_times_in_our_name_are_removed(node: ParleyServer) -> None:
    forged = (
        f"<stanza-id xmlns='{ORIGIN_ID}' by='bob@{node.domain}' id='forged-1'/>"
        f"<stanza-id xmlns='{ORIGIN_ID}' by='BOB@{node.domain}' id='forged-2'/>"
        f"<stanza-id xmlns='{ORIGIN_ID}' by='{node.domain}' id='forged-3'/>"
        f"<stanza-id xmlns='{ORIGIN_ID}' id='forged-4'/>"
        f"<origin-id xmlns='{ORIGIN_ID}' id='kept'/>"
        f"<delay xmlns='{ns.DELAY}' from='{node.domain}' stamp='1970-01-01T00:00:00Z'/>"
        f"<delay xmlns='{ns.DELAY}' from='{node.domain.upper()}' stamp='99999-99-99T99:99:99Z'>forged</delay>"
        f"<delay xmlns='{ns.DELAY}' from='ann@{node.domain}/x' stamp='2001-01-01T00:00:00Z'/>"
        f"<occupant-id xmlns='{OCCUPANT_ID}' id='other'/>"
    )
    async with client(node, "bob", "seen") as bob, client(node, "ann") as ann:
        await ann.send(f"<message to='bob@{node.domain}' type='chat'><body>x</body>{forged}</message>".encode())
        await passed(ann, bob, "bob", node)
        (message,) = from_(await told(bob), "message")
    ids = [(part.get("by"), part.get("id", "")) for part in message.iterfind(f"{{{ORIGIN_ID}}}stanza-id")]
    assert [by for by, _ in ids] == [f"bob@{node.domain}"]
    assert ids[0][1].isdigit()
    assert [part.get("id") for part in message.iterfind(f"{{{ORIGIN_ID}}}origin-id")] == ["kept"]
    # a time that the sender says of itself stays, as it stays visible who says so
    assert [part.get("from") for part in message.iterfind(f"{{{ns.DELAY}}}delay")] == [f"ann@{node.domain}/x"]


async def test_s67_a_contact_list_from_a_stranger(node: ParleyServer) -> None:
    push = f"<query xmlns='{ns.ROSTER}'><item jid='evil@elsewhere.example' subscription='both'/></query>"
    async with client(node, "bob", "seen") as bob, client(node, "ann") as ann:
        await ann.send(f"<iq to='bob@{node.domain}/seen' type='set' id='push'>{push}</iq>".encode())
        await ann.send(f"<iq to='bob@{node.domain}' type='set' id='push2'>{push}</iq>".encode())
        answers = from_(await told(ann), "iq")
        assert [answer.get("type") for answer in answers] == ["error", "error"]
        assert from_(await told(bob), "iq") == []
        await bob.send(f"<iq type='get' id='mine'><query xmlns='{ns.ROSTER}'/></iq>".encode())
        (roster,) = from_(await told(bob), "iq")
    assert "evil" not in [item.get("jid") for item in roster.iter(f"{{{ns.ROSTER}}}item")]


async def test_s68_an_answer_from_a_third_party_carries_its_true_sender(node: ParleyServer) -> None:
    async with client(node, "bob", "seen") as bob, client(node, "ann") as ann, client(node, "cat", "third") as cat:
        me = await own_jid(ann)
        await ann.send(f"<iq to='bob@{node.domain}' type='get' id='asked'><ping xmlns='{ns.PING}'/></iq>".encode())
        await told(ann, "first")
        for sender in (f" from='{jid_of(node, 'cat', 'third')}'", ""):
            await cat.send(f"<iq{sender} to='{me}' type='result' id='asked'><x xmlns='urn:forged'/></iq>".encode())
        await cat.send(f"<iq to='{node.domain}' type='result' id='asked'/>".encode())
        await cat.send(f"<iq to='{node.domain}' type='error' id='asked'/>".encode())
        assert from_(await told(cat), "iq") == []
        answers = from_(await told(ann), "iq")
        assert {answer.get("from") for answer in answers} <= {jid_of(node, "cat", "third")}
        assert from_(await told(bob), "iq") == []


async def own_jid(peer: Wire) -> str:
    """The full address of a client, by a message to itself."""
    await peer.send(b"<message type='headline'><body>self</body></message>")
    (message,) = from_(await told(peer, "self"), "message")
    return message.get("from", "")


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (f"<query xmlns='{ns.ROSTER}'/>", "get"),
        (f"<query xmlns='{ns.ROSTER}'><item jid='x@y.example'/></query>", "set"),
        ("<query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query>", "get"),
        (f"<query xmlns='{ns.ARCHIVE}'/>", "set"),
        (f"<metadata xmlns='{ns.ARCHIVE}'/>", "get"),
        ("<prefs xmlns='urn:xmpp:mam:2' default='always'/>", "set"),
        ("<vCard xmlns='vcard-temp'/>", "set"),
        (f"<query xmlns='{ns.DISCO_INFO}'/>", "get"),
        (f"<query xmlns='{ns.REGISTER}'><remove/></query>", "set"),
        (f"<enable xmlns='{ns.CARBONS}'/>", "set"),
    ],
)
async def test_s69_what_belongs_to_others_is_refused(node: ParleyServer, payload: str, kind: str) -> None:
    conditions = []
    async with client(node, "ann") as ann:
        for to in ("bob", "nobody"):
            await ann.send(f"<iq to='{to}@{node.domain}' type='{kind}' id='{to}'>{payload}</iq>".encode())
            (answer,) = from_(await told(ann, f"after-{to}"), "iq")
            assert answer.get("type") == "error"
            conditions.append(answer[-1][0].tag)
    assert conditions[0].rpartition("}")[2] in ("forbidden", "service-unavailable", "not-allowed", "not-authorized")


async def test_s71_probing_and_approving_what_nobody_asked(node: ParleyServer) -> None:
    async with client(node, "bob", "seen") as bob, client(node, "ann") as ann:
        for kind in ("probe", "subscribed", "unsubscribed", "unsubscribe"):
            await ann.send(f"<presence to='bob@{node.domain}' type='{kind}'/>".encode())
        assert from_(await told(ann), "presence", f"bob@{node.domain}/") == []
        assert from_(await told(bob), "presence", f"ann@{node.domain}") == []
        await ann.send(
            f"<iq type='set' id='1'><query xmlns='{ns.ROSTER}'>"
            f"<item jid='bob@{node.domain}' subscription='both'/></query></iq>".encode()
        )
        await ann.send(f"<iq type='get' id='2'><query xmlns='{ns.ROSTER}'/></iq>".encode())
        items = [item for part in from_(await told(ann), "iq") for item in part.iter(f"{{{ns.ROSTER}}}item")]
        assert {item.get("subscription") for item in items} == {"none"}
        await ann.send(b"<presence type='unavailable'/><presence/>")
        await told(ann)
        assert from_(await told(bob), "presence", f"ann@{node.domain}") == []


async def test_s72_resources_cannot_be_guessed(node: ParleyServer) -> None:
    made = set()
    for _ in range(8):
        async with wire(node.endpoint) as peer:
            await peer.send(header(node.domain))
            await peer.until(b"</stream:features>")
            await peer.send(plain(account(node, "bob")))
            await peer.until(b"<success")
            await peer.send(header(node.domain))
            await peer.until(b"</stream:features>")
            await peer.send(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>".encode())
            answer = await peer.until(b"</iq>")
            made.add(answer.partition(b"/")[2].partition(b"</jid>")[0].rpartition(b"/")[2])
    assert len(made) == 8
    assert all(len(resource) >= 11 for resource in made)  # 64 bits and more in URL-safe letters


async def test_s72_a_guess_is_answered_as_if_nobody_were_there(node: ParleyServer) -> None:
    answers = []
    async with client(node, "bob", "hidden"), client(node, "ann") as ann:
        for resource in ("hidden", "absent"):
            to = jid_of(node, "bob", resource)
            await ann.send(f"<iq to='{to}' type='get' id='1'><ping xmlns='{ns.PING}'/></iq>".encode())
            (answer,) = from_(await told(ann), "iq")
            answers.append((answer.get("type"), [part.tag for part in answer.iter()]))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
@pytest.mark.parametrize("to", ["nobody@{domain}", "nobody@{domain}/x", "bob@{domain}/absent", "{domain}", "@", ""])
async def test_s76_errors_are_never_answered(node: ParleyServer, kind: str, to: str) -> None:
    error = f"<error type='cancel'><item-not-found xmlns='{ns.STANZA_ERRORS}'/></error>"
    wanted = to.format(domain=node.domain)
    address = f" to='{wanted}'" if wanted else ""
    async with client(node, "ann") as ann:
        await ann.send(f"<{kind}{address} type='error' id='e'>{error}</{kind}>".encode())
        assert [part for part in await told(ann) if part.get("type") == "error" and part.get("id") != "e"] == []
        assert stream_error(ann.heard) is None
        answered = [part for part in await told(ann) if part.get("to", "").startswith("ann")]
    assert answered == []
