"""Who is told of what happens to nodes, and when (XEP-0163 s4, XEP-0060 s7.1.2, s9.2)."""

from collections.abc import AsyncIterator
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from homeserver.domain.pubsub import AccessModel, Affiliation, ItemReply, NewItem, NodeConfigChange, SendLast
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from tests.kit import caps
from tests.kit.fakes import FakeSession, wire
from tests.kit.world import World

MOOD = "urn:mood"
JULIET = JID.parse("juliet@a.example")
FAR = "romeo@far.example"
EVENT = f"{{{ns.PUBSUB_EVENT}}}event"


class Stage:
    """A server with publish-subscribe; juliet publishes moods."""

    def __init__(self, server: World) -> None:
        self.server = server
        self.pubsub = server.pubsub
        self.notifications = server.notifications

    async def publish(self, text: str, node: str = MOOD, **options: object) -> None:
        item = NewItem("current", f"<mood xmlns='urn:mood'>{text}</mood>".encode())
        await self.pubsub.publish(
            JULIET, node, JULIET.with_resource("balcony"), [item], NodeConfigChange(**options) if options else None
        )
        await self.settle()

    async def settle(self) -> None:
        await self.server.caps.settle()
        await self.server.audience.settle()
        await self.notifications.settle()
        await self.server.settle()

    async def online(self, name: str, resource: str = "phone", nodes: tuple[str, ...] = (MOOD,)) -> FakeSession:
        """A client that wants to be told, with what it was given when it came."""
        session = await self.server.session(name, resource)
        await self.show(session, nodes)
        return session

    async def show(self, session: FakeSession, nodes: tuple[str, ...]) -> None:
        is_known = caps.is_known(self.server, nodes)
        await self.server.send(session, caps.presence(nodes))
        await caps.until(lambda: is_known or caps.questions(map(wire, session.sent)))
        for question in caps.questions(map(wire, session.sent)):
            await caps.reply(self.server, session, question, nodes)
        await self.settle()

    async def remote_contact(self, subscription: str = "both") -> None:
        """romeo of another server and juliet are contacts."""
        juliet = await self.server.session("juliet", "setup")
        if subscription in ("both", "to"):
            await self.server.send(juliet, f"<presence to='{FAR}' type='subscribe'/>")
            await self.server.remote(FAR, "<presence to='juliet@a.example' type='subscribed'/>")
        if subscription in ("both", "from"):
            await self.server.remote(FAR, "<presence to='juliet@a.example' type='subscribe'/>")
            await self.server.send(juliet, f"<presence to='{FAR}' type='subscribed'/>")
        self.server.leave(juliet)
        self.forget()

    async def remote_shows(self, nodes: tuple[str, ...] = (MOOD,), resource: str = "pad") -> None:
        """romeo's client shows itself to juliet, and answers when it is asked."""
        is_known = caps.is_known(self.server, nodes)
        await self.server.remote(f"{FAR}/{resource}", caps.presence(nodes, to="juliet@a.example"))
        passing = self.server.outbox.passing
        await caps.until(lambda: is_known or caps.questions(found for _, found in passing))
        for question in caps.questions([found for _, found in passing]):
            answer = f"<iq type='result' id='{question.get('id')}' to='{question.get('from')}'>{caps.info(nodes)}</iq>"
            await self.server.remote(f"{FAR}/{resource}", answer)
        await self.settle()

    def forget(self) -> None:
        self.server.outbox.passing.clear()
        self.server.outbox.durable.clear()

    def sent_away(self) -> list[Element]:
        """Notifications to other servers since the last call; none takes the durable lane."""
        assert caps.events(found for _, found in self.server.outbox.durable) == []
        found = caps.events([found for _, found in self.server.outbox.passing])
        self.forget()
        return found


@pytest.fixture
async def stage(server: World) -> AsyncIterator[Stage]:
    for name in ("juliet", "romeo", "nurse", "tybalt"):
        await server.account(name)
    made = Stage(server)
    yield made
    await made.settle()


def moods(session: FakeSession) -> list[str]:
    """The texts of the moods a session was told of, and the names of other events."""
    return [mood_of(found) for found in caps.events(session.take())]


def mood_of(message: Element) -> str:
    event = message.find(EVENT)
    assert event is not None
    text = event.find(".//{urn:mood}mood")
    return text.text or "" if text is not None else event[0].tag.rpartition("}")[2]


async def test_interested_clients_of_contacts_and_of_the_account_are_told(stage: Stage) -> None:
    await stage.server.befriend("juliet", "romeo")
    own = await stage.online("juliet", "balcony")
    friend, pad = await stage.online("romeo"), await stage.online("romeo", "pad")
    deaf = await stage.online("romeo", "deaf", ("urn:other",))
    stranger = await stage.online("tybalt")
    for session in (own, friend, pad, deaf, stranger):
        session.take()
    await stage.publish("happy")
    told = caps.events(friend.take())
    assert len(told) == 1
    message = told[0]
    assert (
        message.attrib.items()
        >= {"from": "juliet@a.example", "to": "romeo@a.example/phone", "type": "headline"}.items()
    )
    assert message.get("id")
    item = message.find(f"{EVENT}/{{{ns.PUBSUB_EVENT}}}items/{{{ns.PUBSUB_EVENT}}}item")
    assert item is not None
    assert item.attrib == {"id": "current"}
    assert [moods(session) for session in (own, pad, deaf, stranger)] == [["happy"], ["happy"], [], []]


async def test_who_comes_is_given_the_newest_items_once(stage: Stage) -> None:
    """XEP-0163 s4.3.4: not again with later presence, but again after being away."""
    await stage.server.befriend("juliet", "romeo")
    await stage.publish("old")
    await stage.publish("new")
    friend = await stage.online("romeo")
    given = caps.events(friend.take())
    assert [mood_of(message) for message in given] == ["new"]
    assert given[0].find(f"{{{ns.DELAY}}}delay") is not None
    await stage.show(friend, (MOOD,))
    assert moods(friend) == []
    await stage.server.send(friend, "<presence type='unavailable'/>")
    await stage.show(friend, (MOOD,))
    assert moods(friend) == ["new"]
    assert moods(await stage.online("juliet", "balcony")) == ["new"]
    assert moods(await stage.online("nurse")) == []
    deaf = await stage.server.online("romeo", "deaf")
    await stage.settle()
    assert moods(deaf) == []


async def test_the_first_node_of_a_contact_counts_for_who_comes_later(stage: Stage) -> None:
    """That a contact had no nodes is remembered, until it has one."""
    await stage.server.befriend("juliet", "romeo")
    friend = await stage.online("romeo")
    assert moods(friend) == []
    assert await stage.pubsub.hosts.with_nodes(["juliet@a.example", "nurse@a.example"]) == set()
    await stage.publish("happy")
    assert await stage.pubsub.hosts.with_nodes(["juliet@a.example", "nurse@a.example"]) == {"juliet@a.example"}
    assert moods(friend) == ["happy"]
    assert moods(await stage.online("romeo", "pad")) == ["happy"]


async def test_a_new_interest_is_served_and_an_old_one_not_again(stage: Stage) -> None:
    await stage.publish("happy")
    await stage.publish("tune", "urn:tune")
    session = await stage.online("juliet", "balcony", (MOOD,))
    assert moods(session) == ["happy"]
    await stage.show(session, (MOOD, "urn:tune"))
    assert moods(session) == ["tune"]


async def test_a_contact_who_may_see_the_account_from_now_on_is_given_the_newest(stage: Stage) -> None:
    await stage.publish("happy")
    friend = await stage.online("romeo")
    assert moods(friend) == []
    await stage.server.befriend("romeo", "juliet")
    await stage.settle()
    assert moods(friend) == ["happy"]


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        ({"access_model": AccessModel.PRESENCE}, True),
        ({"access_model": AccessModel.OPEN}, True),
        ({"access_model": AccessModel.WHITELIST}, False),
        ({"access_model": AccessModel.AUTHORIZE}, False),
        ({"access_model": AccessModel.ROSTER, "roster_groups": ("friends",)}, True),
        ({"access_model": AccessModel.ROSTER, "roster_groups": ("enemies",)}, False),
    ],
)
async def test_only_who_may_read_is_told(stage: Stage, options: dict[str, Any], is_told: bool) -> None:
    await stage.server.befriend("juliet", "romeo")
    juliet = await stage.server.account("juliet")
    await stage.server.contacts.set(juliet, JID.parse("romeo@a.example"), groups=["friends"])
    friend, own = await stage.online("romeo"), await stage.online("juliet", "pad")
    for session in (friend, own):
        session.take()
    await stage.publish("happy", **options)
    assert moods(friend) == (["happy"] if is_told else [])
    assert moods(own) == ["happy"]
    await stage.server.send(friend, "<presence type='unavailable'/>")
    await stage.show(friend, (MOOD,))
    assert moods(friend) == (["happy"] if is_told else [])


async def test_affiliations_count(stage: Stage) -> None:
    """A member of a whitelist is told, an outcast of an open node is not."""
    for name in ("romeo", "nurse"):
        await stage.server.befriend("juliet", name)
    romeo, nurse = await stage.online("romeo"), await stage.online("nurse")
    await stage.publish("made", access_model=AccessModel.WHITELIST)
    await stage.pubsub.owners.affiliate(JULIET, MOOD, JULIET, {JID.parse("romeo@a.example"): Affiliation.MEMBER})
    await stage.settle()
    for session in (romeo, nurse):
        session.take()
    await stage.publish("listed")
    assert [moods(romeo), moods(nurse)] == [["listed"], []]


async def test_a_change_of_access_counts_at_once(stage: Stage) -> None:
    await stage.server.befriend("juliet", "romeo")
    friend = await stage.online("romeo")
    await stage.publish("open", access_model=AccessModel.OPEN)
    await stage.pubsub.configure(JULIET, MOOD, None, NodeConfigChange(access_model=AccessModel.WHITELIST))
    await stage.publish("closed")
    await stage.pubsub.configure(JULIET, MOOD, None, NodeConfigChange(access_model=AccessModel.PRESENCE))
    await stage.publish("again")
    assert moods(friend) == ["open", "again"]


async def test_the_configuration_says_what_is_told(stage: Stage) -> None:
    own = await stage.online("juliet", "pad")
    own.take()
    await stage.publish("silent", deliver_notifications=False)
    assert moods(own) == []
    await stage.publish("light", "urn:light", deliver_payloads=False)
    await stage.show(own, (MOOD, "urn:light"))
    assert moods(own) == ["items"]
    await stage.publish("never", "urn:never", send_last=SendLast.NEVER)
    assert moods(await stage.online("juliet", "third", ("urn:never",))) == []


async def test_retractions_purges_and_deletions(stage: Stage) -> None:
    own = await stage.online("juliet", "pad")
    await stage.publish("happy")
    await stage.pubsub.retract(JULIET, MOOD, JULIET, ["current"], True)
    await stage.publish("sad")
    await stage.pubsub.purge(JULIET, MOOD, JULIET)
    await stage.pubsub.delete(JULIET, MOOD, JULIET, "xmpp:juliet@a.example?;node=new")
    await stage.settle()
    told = caps.events(own.take())
    assert [mood_of(message) for message in told] == ["happy", "items", "sad", "purge", "delete"]
    retract = told[1].find(f".//{{{ns.PUBSUB_EVENT}}}retract")
    assert retract is not None
    assert retract.get("id") == "current"
    redirect = told[4].find(f".//{{{ns.PUBSUB_EVENT}}}redirect")
    assert redirect is not None
    assert redirect.get("uri") == "xmpp:juliet@a.example?;node=new"


async def test_whom_to_answer_is_told_to_contacts_only(stage: Stage) -> None:
    """XEP-0163 s4.3.1."""
    await stage.server.befriend("juliet", "romeo")
    friend = await stage.online("romeo")
    await stage.publish("made", access_model=AccessModel.OPEN, item_reply=ItemReply.PUBLISHER)
    await stage.pubsub.subscriptions.subscribe(JULIET, MOOD, JID.parse(FAR), JID.parse(FAR))
    friend.take()
    stage.forget()
    await stage.publish("happy")
    address = caps.events(friend.take())[0].find(f"{{{ns.ADDRESSES}}}addresses/{{{ns.ADDRESSES}}}address")
    assert address is not None
    assert address.attrib == {"type": "replyto", "jid": "juliet@a.example/balcony"}
    away = stage.sent_away()
    assert [message.get("to") for message in away] == [FAR]
    assert away[0].find(f"{{{ns.ADDRESSES}}}addresses") is None


async def test_contacts_elsewhere(stage: Stage) -> None:
    """XEP-0163 s4.3.4 and s4.3.1: full JIDs, newest item first of all, nothing after they left."""
    await stage.remote_contact()
    await stage.publish("before")
    await stage.remote_shows()
    given = stage.sent_away()
    assert [(mood_of(message), message.get("to"), message.get("from")) for message in given] == [
        ("before", f"{FAR}/pad", "juliet@a.example")
    ]
    await stage.remote_shows()
    assert stage.sent_away() == []
    await stage.remote_shows(resource="phone")
    stage.forget()
    await stage.publish("during")
    assert sorted(message.get("to", "") for message in stage.sent_away()) == [f"{FAR}/pad", f"{FAR}/phone"]
    await stage.server.remote(f"{FAR}/pad", "<presence to='juliet@a.example' type='unavailable'/>")
    stage.server.presence.peer_unreachable("elsewhere.example")
    await stage.publish("later")
    assert [message.get("to") for message in stage.sent_away()] == [f"{FAR}/phone"]
    stage.server.presence.peer_unreachable("far.example")
    await stage.publish("last")
    assert stage.sent_away() == []
    assert len(stage.server.audience) == 0


@pytest.mark.parametrize("subscription", ["to", "none"])
async def test_who_does_not_see_the_account_is_not_told(stage: Stage, subscription: str) -> None:
    await stage.remote_contact(subscription)
    await stage.publish("open", access_model=AccessModel.OPEN)
    if subscription == "none":
        await stage.server.remote(f"{FAR}/pad", caps.presence((MOOD,), to="juliet@a.example"))
        await stage.settle()
        assert len(stage.server.audience) == 0
    else:
        await stage.remote_shows()
    await stage.publish("again")
    assert stage.sent_away() == []


async def test_a_subscription_is_served_whatever_the_client_says(stage: Stage) -> None:
    """XEP-0163 s4.3.2: one notification, to the address that subscribed; a service knows no presence at all."""
    await stage.publish("made", access_model=AccessModel.OPEN)
    for subscriber in ("tybalt@far.example/x", "nurse@far.example"):
        jid = JID.parse(subscriber)
        await stage.pubsub.subscriptions.subscribe(JULIET, MOOD, jid, jid)
    await stage.settle()
    assert sorted(message.get("to", "") for message in stage.sent_away()) == [
        "nurse@far.example",
        "tybalt@far.example/x",
    ]
    await stage.publish("happy")
    assert [(mood_of(found), found.get("to")) for found in stage.sent_away()] == [
        ("happy", "tybalt@far.example/x"),
        ("happy", "nurse@far.example"),
    ]


async def test_nothing_passes_between_two_of_whom_one_blocks_the_other(stage: Stage) -> None:
    """XEP-0163 s4.3.3."""
    for name in ("romeo", "nurse"):
        await stage.server.befriend("juliet", name)
    await stage.remote_contact()
    blocking = {("juliet@a.example", "romeo@a.example"), ("nurse@a.example", "juliet@a.example")}
    blocking.add(("juliet@a.example", FAR))
    stage.server.router.hides = lambda sender, to: (sender.bare, to.bare) in blocking
    await stage.publish("before")
    romeo, nurse = await stage.online("romeo"), await stage.online("nurse")
    await stage.server.remote(f"{FAR}/pad", caps.presence((MOOD,), to="juliet@a.example"))
    await stage.publish("during")
    assert [moods(romeo), moods(nurse), stage.sent_away()] == [[], [], []]
