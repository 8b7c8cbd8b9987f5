"""One stanza for several addresses (XEP-0033), through the dispatcher."""

from typing import Any

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import parse_stanza
from homeserver.services.limits import Limit
from homeserver.xmpp.core_message import start_tag
from tests.kit.fakes import FakeSession, stanza
from tests.kit.world import World

HOST = "a.example"


def address(kind: str, jid: str = "", **more: str) -> str:
    given = {"jid": jid, **more} if jid else more
    words = "".join(f" {key}='{value}'" for key, value in given.items())
    return f"<address type='{kind}'{words}/>"


async def send(server: World, session: FakeSession, *addresses: str, body: str = "hi", to: str = HOST) -> list[Any]:
    """A client sends a message to the service; what it was told, once."""
    header = f"<addresses xmlns='{ns.ADDRESSES}'>{''.join(addresses)}</addresses>"
    text = f"<message to='{to}' type='chat' id='m1'>{header}<body>{body}</body></message>"
    told: list[Any] = []
    element = stanza(text, session.jid).element
    waiting = server.dispatcher.message(
        session, element, None, JID.parse(to), start_tag(session.jid), lambda *found: told.append(found)
    )
    if waiting is not None:
        await waiting
    await server.settle()
    assert len(told) == 1
    return told[0]


def received(session: FakeSession) -> list[tuple[str, list[tuple[str | None, str | None, str | None]]]]:
    """Recipient and addresses of each message a session was given."""
    found = []
    for stored, _, _ in session.delivered:
        element = parse_stanza(stored.message.payload)
        header = element.find(f"{{{ns.ADDRESSES}}}addresses")
        assert header is not None
        shown = [(one.get("type"), one.get("jid"), one.get("delivered")) for one in header]
        found.append((element.get("to", ""), shown))
    session.delivered.clear()
    return found


def errors(session: FakeSession) -> list[tuple[str | None, str]]:
    """Sender and condition of each error message, stored ones included."""
    found = [stored.message.payload for stored, _, _ in session.delivered]
    session.delivered.clear()
    elements = [parse_stanza(payload) for payload in found] + session.take()
    told = []
    for element in elements:
        error = element.find(f"{{{ns.CLIENT}}}error")
        if error is not None:
            told.append((element.get("from"), error[0].tag.rpartition("}")[2]))
    return told


async def test_everybody_gets_it_and_blind_copies_stay_blind(server: World) -> None:
    """XEP-0033 s4.5, s4.6.3, s6: delivered marks, and each bcc recipient sees its own address only."""
    ann = await server.online("ann")
    to, copied, blind, other = [await server.online(name) for name in ("bob", "carl", "dora", "eve")]
    told = await send(
        server,
        ann,
        address("to", "bob@a.example"),
        address("cc", "carl@a.example"),
        address("bcc", "dora@a.example"),
        address("bcc", "eve@a.example"),
        address("to", "fay@far.example"),
        address("replyto", "ann@a.example/x"),
        address("noreply"),
    )
    assert told[1] is None
    assert told[0].id > 0
    common: list[tuple[str | None, str | None, str | None]] = [
        ("to", "bob@a.example", "true"),
        ("cc", "carl@a.example", "true"),
    ]
    rest: list[tuple[str | None, str | None, str | None]] = [
        ("to", "fay@far.example", "true"),
        ("replyto", "ann@a.example/x", None),
        ("noreply", None, None),
    ]
    assert received(to) == [("bob@a.example", common + rest)]
    assert received(copied) == [("carl@a.example", common + rest)]
    assert received(blind) == [("dora@a.example", [*common, ("bcc", "dora@a.example", None), *rest])]
    assert received(other) == [("eve@a.example", [*common, ("bcc", "eve@a.example", None), *rest])]
    ((destination, far),) = server.outbox.durable
    assert (destination, far.get("to"), far.get("from")) == ("far.example", "fay@far.example", "ann@a.example/phone")
    assert "bcc" not in [one.get("type") for one in far[0]]
    assert await server.archive("ann") == ["hi"] * 5
    assert await server.archive("bob") == ["hi"]


async def test_who_was_delivered_to_already_gets_nothing(server: World) -> None:
    ann, bob, carl = [await server.online(name) for name in ("ann", "bob", "carl")]
    await send(server, ann, address("to", "bob@a.example", delivered="true"), address("to", "carl@a.example"))
    assert received(bob) == []
    assert len(received(carl)) == 1
    await send(server, ann, address("to", "carl@a.example"), address("bcc", "carl@a.example"))
    assert len(received(carl)) == 1


async def test_each_refusal_is_told_and_the_others_get_it(server: World) -> None:
    ann, bob = await server.online("ann"), await server.online("bob")
    told = await send(server, ann, address("to", "nobody@a.example"), address("to", "bob@a.example"))
    assert told[1] is None
    assert len(received(bob)) == 1
    assert ("nobody@a.example", "service-unavailable") in errors(ann)
    told = await send(server, ann, address("to", "nobody@a.example"))
    assert told == (None, None)


@pytest.mark.parametrize(
    ("addresses", "condition"),
    [
        ([], "bad-request"),
        ([address("replyto", "bob@a.example")], "bad-request"),
        ([address("to", "bob@a.example", uri="sip:x")], "bad-request"),
        (["<address jid='bob@a.example'/>"], "bad-request"),
        (["<address type='to' desc='Bob'/>"], "bad-request"),
        ([address("to", "bob@a.example"), "<address type='to' uri='mailto:x@y.example'/>"], "jid-malformed"),
        ([address("to", "bob@a.example"), address("to", "@")], "jid-malformed"),
        ([address("to", "bob@a.example"), address("bcc", "a.example")], "bad-request"),
        ([address("to", "bob@a.example"), address("bcc", "b.example")], "bad-request"),
        ([address("to", "bob@a.example"), *(address("to", f"u{n}@a.example") for n in range(50))], "not-acceptable"),
    ],
)
async def test_what_is_refused_reaches_nobody(server: World, addresses: list[str], condition: str) -> None:
    """XEP-0033 s9, S-78: fifty addresses at most; the service is no address itself, so that nothing goes round."""
    ann, bob = await server.online("ann"), await server.online("bob")
    assert await send(server, ann, *addresses) == (None, None)
    assert errors(ann) == [(HOST, condition)]
    assert bob.delivered == []


async def test_s78_every_address_counts_as_a_stanza(server: World) -> None:
    """Who writes to fifty is held to what fifty messages cost."""
    ann = await server.online("ann")
    bucket = server.limits.bucket(Limit.STANZA_ACCOUNT, "ann@a.example")
    before = bucket.level()
    await send(server, ann, *(address("to", f"u{n}@far.example") for n in range(50)))
    assert before - bucket.level() == pytest.approx(49)
    assert len(server.outbox.durable) == 50


async def test_strangers_may_not_use_it(server: World) -> None:
    bob = await server.online("bob")
    header = f"<addresses xmlns='{ns.ADDRESSES}'>{address('to', 'bob@a.example')}</addresses>"
    message = f"<message to='{HOST}' type='chat' id='m'>{header}<body>spam</body></message>"
    found = server.dispatcher.read(stanza(message, JID.parse("eve@far.example/x")))
    with pytest.raises(Exception, match="Only accounts") as refused:
        server.messaging.receive(found, lambda *_: None)
    assert type(refused.value).__name__ == "Forbidden"
    assert bob.delivered == []


async def test_presence_to_many_is_taken_back_from_all(server: World) -> None:
    """XEP-0033 s5.1."""
    ann, bob, carl = [await server.online(name) for name in ("ann", "bob", "carl")]
    given = f"<addresses xmlns='{ns.ADDRESSES}'>{address('bcc', 'bob@a.example')}{address('to', 'carl@a.example')}"
    await server.send(ann, f"<presence to='{HOST}'>{given}</addresses></presence>")
    for friend, kinds in ((bob, ["bcc", "to"]), (carl, ["to"])):
        (shown,) = friend.take()
        assert shown.get("from") == "ann@a.example/phone"
        header = shown.find(f"{{{ns.ADDRESSES}}}addresses")
        assert header is not None
        assert [one.get("type") for one in header] == kinds
    await server.send(ann, "<presence type='unavailable'/>")
    assert len(bob.told()) == 1
    assert len(carl.told()) == 1


async def test_the_domain_says_so(server: World) -> None:
    ann = await server.online("ann")
    answer = await server.iq(ann, f"<iq type='get' id='d' to='{HOST}'><query xmlns='{ns.DISCO_INFO}'/></iq>")
    assert ns.ADDRESSES in [feature.get("var") for feature in answer[0]]
