"""Blocking as both sides see it (XEP-0191), on one server and towards others; reports that come with it (XEP-0377)."""

import pytest

from homeserver.domain.errors import Blocked, RateLimited
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.services.reports import ReportVerbs
from tests.kit.fakes import FakeSession, short, wire
from tests.kit.world import World

BLOCK = "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{}</block></iq>"
UNBLOCK = "<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'>{}</unblock></iq>"
LIST = "<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>"


def items(*jids: str) -> str:
    return "".join(f"<item jid='{jid}'/>" for jid in jids)


async def block(server: World, session: FakeSession, *jids: str) -> str:
    return await answer_to(server, session, BLOCK.format(items(*jids)))


async def unblock(server: World, session: FakeSession, *jids: str) -> str:
    return await answer_to(server, session, UNBLOCK.format(items(*jids)))


async def answer_to(server: World, session: FakeSession, text: str) -> str:
    """The answer in short; what else the session was sent stays there to be taken."""
    await server.send(session, text)
    stanza_id = text.partition("id='")[2][0]
    found = [data for data in session.sent if wire(data).get("id") == stanza_id]
    assert len(found) == 1
    session.sent.remove(found[0])
    return short(wire(found[0]))


async def listed(server: World, session: FakeSession) -> list[str | None]:
    answer = await server.iq(session, LIST)
    return [item.get("jid") for item in answer[0]]


def pushes(session: FakeSession) -> list[tuple[str, list[str | None]]]:
    found = [element for element in session.take() if element.tag.endswith("iq") and element.get("type") == "set"]
    return [(element[0].tag.rpartition("}")[2], [item.get("jid") for item in element[0]]) for element in found]


def condition(session: FakeSession) -> list[tuple[str, str]]:
    """Type and conditions of the errors it was sent."""
    errors = [element.find(f"{{{ns.CLIENT}}}error") for element in session.take()]
    return [
        (error.get("type", ""), " ".join(part.tag.rpartition("}")[2] for part in error))
        for error in errors
        if error is not None
    ]


async def test_the_list_and_its_pushes(server: World) -> None:
    phone, tablet = await server.online("ann"), await server.online("ann", "tablet")
    other = await server.online("bob")
    assert await listed(server, phone) == []
    assert "result" in await block(server, phone, "eve@b.example", "spam.example")
    assert await listed(server, phone) == ["eve@b.example", "spam.example"]
    phone.take()
    assert await listed(server, tablet) == ["eve@b.example", "spam.example"]
    for session in (phone, tablet, other):
        session.take()
    await unblock(server, phone, "eve@b.example")
    assert pushes(phone) == [("unblock", ["eve@b.example"])]
    assert pushes(tablet) == [("unblock", ["eve@b.example"])]
    await unblock(server, tablet)
    assert pushes(phone) == [("unblock", [])]
    assert pushes(other) == []
    assert await listed(server, phone) == []


async def test_only_sessions_that_asked_are_told(server: World) -> None:
    phone, tablet = await server.online("ann"), await server.online("ann", "tablet")
    await listed(server, tablet)
    tablet.take()
    await block(server, phone, "eve@b.example")
    assert pushes(phone) == []
    assert pushes(tablet) == [("block", ["eve@b.example"])]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (BLOCK.format(""), "bad-request"),
        (BLOCK.format("<item/>"), "bad-request"),
        (BLOCK.format("<item jid='@x'/>"), "jid-malformed"),
        (BLOCK.format("<item jid='ann@a.example'/>"), "not-acceptable"),
        (UNBLOCK.format("<item jid=''/>"), "jid-malformed"),
        (BLOCK.format("<item jid='e@b.example'><report xmlns='urn:xmpp:reporting:1'/></item>"), "bad-request"),
    ],
)
async def test_what_is_refused(server: World, text: str, error: str) -> None:
    ann = await server.session("ann")
    assert f"iq error {error} " in short(await server.iq(ann, text))
    assert await listed(server, ann) == []


async def test_messages_both_ways(server: World) -> None:
    ann, bob = await server.online("ann"), await server.online("bob")
    await block(server, ann, "bob@a.example")
    assert await server.write(bob, "ann@a.example", "hello") == [(None, None)]
    assert condition(bob) == [("cancel", "service-unavailable")]
    assert await server.write(ann, "bob@a.example", "hello") == [(None, None)]
    assert condition(ann) == [("cancel", "not-acceptable blocked")]
    assert ann.delivered == bob.delivered == []
    assert await server.archive("ann") == await server.archive("bob") == await server.waiting("ann") == []
    await unblock(server, ann, "bob@a.example")
    await server.write(bob, "ann@a.example", "again")
    assert await server.archive("ann") == ["again"]


async def test_the_answer_is_that_of_an_account_that_is_not_there(server: World) -> None:
    ann, bob = await server.online("ann"), await server.online("bob")
    await block(server, ann, "bob@a.example")
    answers = []
    for to in ("ann@a.example", "nobody@a.example"):
        await server.write(bob, to, "hello")
        answers.append(bob.sent[-1].decode().replace(to, "x"))
        bob.take()
    assert answers[0] == answers[1]


async def test_a_block_outlives_the_process_and_the_session(server: World) -> None:
    await block(server, await server.online("ann"), "b.example")
    server.privacy._loaded.clear()
    await server.privacy.start()
    await server.account("ann")
    message = "<message to='ann@a.example' type='chat'><body>spam</body></message>"
    await server.remote("eve@b.example/x", message)
    assert await server.waiting("ann") == []


async def test_presence_on_block_and_unblock(server: World) -> None:
    await server.befriend("ann", "bob")
    ann, bob = await server.online("ann"), await server.online("bob")
    ann.take()
    await block(server, ann, "bob@a.example")
    assert bob.told() == ["unavailable ann@a.example/phone -> bob@a.example"]
    ann.take()
    await server.send(ann, "<presence><show>away</show></presence>")
    await server.send(bob, "<presence><show>dnd</show></presence>")
    assert [line for line in bob.told() if "ann" in line] == []
    assert [line for line in ann.told() if "bob" in line] == []
    again = await server.online("bob", "tablet")
    await server.send(bob, "<presence type='probe' to='ann@a.example'/>")
    assert [line for line in (*again.told(), *bob.told()) if "ann" in line] == []
    ann.take()
    await unblock(server, ann, "bob@a.example")
    assert "available ann@a.example/phone -> bob@a.example" in bob.told()
    assert [line for line in ann.told() if line.startswith("available bob@")] == [
        "available bob@a.example/phone -> ann@a.example",
        "available bob@a.example/tablet -> ann@a.example",
    ]


async def test_a_blocked_resource(server: World) -> None:
    await server.befriend("ann", "bob")
    ann, phone, tablet = await server.online("ann"), await server.online("bob"), await server.online("bob", "tablet")
    phone.take()
    await block(server, ann, "bob@a.example/phone")
    assert phone.told() == ["unavailable ann@a.example/phone -> bob@a.example/phone"]
    tablet.take()
    await server.send(ann, "<presence><show>away</show></presence>")
    assert phone.told() == []
    assert tablet.told() == ["available ann@a.example/phone -> bob@a.example"]
    await server.write(phone, "ann@a.example", "no")
    await server.write(tablet, "ann@a.example", "yes")
    assert await server.archive("ann") == ["yes"]


async def test_presence_towards_another_server(server: World) -> None:
    ann = await server.session("ann")
    await server.contacts.request(ann.account, JID.parse("eve@far.example"))
    await server.remote("eve@far.example", "<presence type='subscribed' to='ann@a.example'/>")
    await server.remote("eve@far.example", "<presence type='subscribe' to='ann@a.example'/>")
    await server.send(ann, "<presence type='subscribed' to='eve@far.example'/>")
    await server.send(ann, "<presence/>")
    await server.send(ann, "<presence to='room@far.example/me'/>")
    server.outbox.told()
    await block(server, ann, "far.example")
    assert sorted(server.outbox.told()) == [
        "unavailable ann@a.example/phone -> eve@far.example",
        "unavailable ann@a.example/phone -> room@far.example/me",
    ]
    ann.take()
    await server.send(ann, "<presence><show>away</show></presence>")
    await server.remote("eve@far.example/x", "<presence to='ann@a.example'/>")
    await server.remote("eve@far.example", "<presence type='probe' to='ann@a.example'/>")
    await server.remote("eve@far.example", "<presence type='unsubscribe' to='ann@a.example'/>")
    await server.online("ann", "second")
    assert server.outbox.told() == []
    assert [line for line in ann.told() if "eve@" in line] == []
    await unblock(server, ann)
    assert sorted(server.outbox.told()) == [
        "available ann@a.example/phone -> eve@far.example",
        "available ann@a.example/second -> eve@far.example",
        "probe ann@a.example -> eve@far.example",
    ]


async def test_iqs_both_ways(server: World) -> None:
    await server.befriend("ann", "bob")
    ann, bob = await server.online("ann"), await server.online("bob")
    await block(server, ann, "bob@a.example")
    ping = "<iq type='get' id='p' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>"
    for to in ("ann@a.example", "ann@a.example/phone"):
        assert "iq error service-unavailable" in short(await server.iq(bob, ping.format(to)))
    bob.take(), ann.take()
    await server.send(ann, ping.format("bob@a.example/phone"))
    assert condition(ann) == [("cancel", "not-acceptable blocked")]
    await server.send(bob, "<iq type='result' id='x' to='ann@a.example/phone'/>")
    await server.send(ann, "<iq type='result' id='x' to='bob@a.example/phone'/>")
    assert (ann.told(), bob.told()) == ([], [])
    await server.remote("ann@a.example", ping.format("bob@a.example"))
    assert not await server.presence.may_see(ann.account, bob.jid)
    assert not server.presence.is_visible(ann.jid, bob.jid)


async def test_subscriptions_both_ways(server: World) -> None:
    ann, bob = await server.online("ann"), await server.online("bob")
    await block(server, ann, "bob@a.example")
    await server.send(bob, "<presence type='subscribe' to='ann@a.example'/>")
    assert ann.told() == []
    assert [line for line in bob.told() if "error" in line] == []
    assert await server.contacts.requests(ann.account) == []
    await server.send(ann, "<presence type='subscribe' to='bob@a.example'/>")
    assert condition(ann) == [("cancel", "not-acceptable blocked")]
    with pytest.raises(Blocked):
        await server.contacts.request(ann.account, JID.parse("bob@a.example"))


async def test_own_sessions_and_the_own_server_stay_in_reach(server: World) -> None:
    phone, tablet = await server.online("ann"), await server.online("ann", "tablet")
    await block(server, phone, "a.example")
    await server.write(phone, "ann@a.example/tablet", "note")
    assert len(tablet.delivered) == 1
    ping = "<iq type='get' id='p' to='a.example'><ping xmlns='urn:xmpp:ping'/></iq>"
    assert "iq result" in short(await server.iq(phone, ping))


async def test_a_deleted_account_leaves_nothing(server: World) -> None:
    ann = await server.online("ann")
    await block(server, ann, "bob@a.example")
    await server.accounts.delete("ann@a.example")
    await server.privacy.settle()
    assert not server.privacy.is_used
    await server.privacy.start()
    assert not server.privacy.is_used


async def test_the_list_is_bounded(server: World) -> None:
    ann = await server.session("ann")
    many = [f"u{number}@b.example" for number in range(1000)]
    assert "result" in await block(server, ann, *many)
    assert "resource-constraint" in await block(server, ann, "one@b.example")
    assert "result" in await block(server, ann, "u1@b.example")


async def test_reports(server: World) -> None:
    ann, bob = await server.online("ann"), await server.online("bob")
    ids = [(await server.write(bob, "ann@a.example", text))[0][0].id for text in ("buy", "this")]
    foreign = (await server.write(await server.online("cat"), "ann@a.example", "hi"))[0][0].id
    evidence = "".join(f"<stanza-id xmlns='urn:xmpp:sid:0' by='ann@a.example' id='{id_}'/>" for id_ in (*ids, foreign))
    text = f"<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>{evidence}<text>no</text><report-origin/></report>"
    await server.iq(ann, BLOCK.format(f"<item jid='bob@a.example'>{text}</item>"))
    legacy = "<report xmlns='urn:xmpp:reporting:0'><abuse/><text>rude</text></report>"
    await server.iq(ann, BLOCK.format(f"<item jid='eve@b.example'>{legacy}</item>"))
    assert await listed(server, ann) == ["bob@a.example", "eve@b.example"]
    verbs = ReportVerbs(server.database, server.clock)
    first, second = await verbs.list({"all": False})
    assert (first["reporter"], first["jid"], first["reason"], first["words"], first["messages"], first["origin"]) == (
        "ann@a.example",
        "bob@a.example",
        "urn:xmpp:reporting:spam",
        "no",
        2,
        True,
    )
    assert (second["reason"], second["words"]) == ("urn:xmpp:reporting:abuse", "rude")
    shown = await verbs.show({"number": first["id"]})
    assert [message["id"] for message in shown["messages"]] == ids
    assert "<body>buy</body>" in shown["messages"][0]["stanza"]
    await verbs.resolve({"number": first["id"], "note": "warned"})
    assert [one["id"] for one in await verbs.list({"all": False})] == [second["id"]]
    assert (await verbs.list({"all": True}))[0]["note"] == "warned"
    server.clock.advance(181 * 86400)
    await server.reports.purge()
    assert await verbs.list({"all": True}) == []


async def test_too_many_reports_do_not_undo_the_block(server: World) -> None:
    ann = await server.session("ann")
    report = "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'/>"
    for number in range(31):
        await server.iq(ann, BLOCK.format(f"<item jid='u{number}@b.example'>{report}</item>"))
    assert len(await listed(server, ann)) == 31
    assert len(await ReportVerbs(server.database, server.clock).list({"all": False})) == 30


async def test_requests_are_limited(server: World) -> None:
    ann = await server.account("ann")
    for number in range(310):
        await server.remote(f"u{number}@far.example", "<presence type='subscribe' to='ann@a.example'/>")
    assert len(await server.contacts.requests(ann)) == 300
    bob = await server.account("bob")
    for number in range(500):
        await server.contacts.request(bob, JID.parse(f"u{number}@far.example"))
    with pytest.raises(RateLimited):
        await server.contacts.request(bob, JID.parse("one@far.example"))


async def test_changes_of_presence_are_limited(server: World) -> None:
    ann = await server.online("ann")
    for _ in range(300):
        await server.send(ann, "<presence/>")
    ann.take()
    await server.send(ann, "<presence><show>away</show></presence>")
    assert condition(ann) == [("wait", "resource-constraint text")]
    await server.send(ann, "<presence type='unavailable'/>")
    assert not server.presence.is_online(ann.account)
