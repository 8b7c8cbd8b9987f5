"""Presence as clients and peers see it (RFC 6121 s4)."""

import pytest

from homeserver.domain.privacy import SeenBy
from homeserver.protocol.stanza import Stanza
from homeserver.services import presence as module
from tests.kit.fakes import FakeSession
from tests.kit.world import World

ROMEO = "romeo@far.example"
ROOM = "room@groups.far.example"


async def subscribe_remote(server: World, session: FakeSession, contact: str = ROMEO) -> None:
    """Subscriptions both ways with an account elsewhere."""
    own = session.account.jid.bare
    await server.send(session, f"<presence to='{contact}' type='subscribe'/>")
    await server.remote(contact, f"<presence to='{own}' type='subscribed'/>")
    await server.remote(contact, f"<presence to='{own}' type='subscribe'/>")
    await server.send(session, f"<presence to='{contact}' type='subscribed'/>")
    session.take()
    server.outbox.told()


async def test_initial_presence_goes_both_ways(server: World) -> None:
    await server.befriend("alice", "bob")
    bob = await server.online("bob", presence="<presence id='b'><show>dnd</show></presence>")
    alice = await server.session("alice")
    text = "<presence id='p' xml:lang='en'><show>away</show><status>out &amp; about</status><priority>5</priority></presence>"
    await server.send(alice, text)

    [seen] = bob.take()
    assert (seen.get("from"), seen.get("to"), seen.get("id")) == ("alice@a.example/phone", "bob@a.example", "p")
    assert [child.text for child in seen] == ["away", "out & about", "5"]
    own, theirs = alice.take()
    assert (own.get("from"), own.get("to")) == ("alice@a.example/phone", "alice@a.example")
    assert (theirs.get("from"), theirs.get("to"), theirs[0].text) == ("bob@a.example/phone", "alice@a.example", "dnd")
    assert (alice.priority, alice.presence is not None) == (5, True)


async def test_sessions_of_one_account_see_each_other(server: World) -> None:
    phone = await server.online("alice", "phone")
    laptop = await server.session("alice", "laptop")
    await server.send(laptop, "<presence/>")
    assert phone.told() == ["available alice@a.example/laptop -> alice@a.example"]
    assert laptop.told() == [
        "available alice@a.example/laptop -> alice@a.example",
        "available alice@a.example/phone -> alice@a.example",
    ]
    await server.send(laptop, "<presence type='unavailable'/>")
    assert phone.told() == ["unavailable alice@a.example/laptop -> alice@a.example"]
    assert laptop.told() == ["unavailable alice@a.example/laptop -> alice@a.example"]


async def test_presence_without_asking_for_the_roster(server: World) -> None:
    """The roster is read on the way; nothing is lost."""
    await server.befriend("alice", "bob")
    bob = await server.online("bob")
    alice = await server.session("alice", roster=False)
    await server.send(alice, "<presence/>")
    assert bob.told() == ["available alice@a.example/phone -> bob@a.example"]
    assert len(alice.told()) == 2


async def test_updates_go_to_subscribers_and_not_to_others(server: World) -> None:
    await server.befriend("alice", "bob")
    bob, carol, alice = await server.online("bob"), await server.online("carol"), await server.online("alice")
    bob.take()
    await server.send(alice, "<presence><show>xa</show></presence>")
    assert bob.told() == ["available alice@a.example/phone -> bob@a.example"]
    assert alice.told() == ["available alice@a.example/phone -> alice@a.example"]
    assert carol.take() == []


async def test_a_lost_session_is_told_unavailable_once(server: World) -> None:
    await server.befriend("alice", "bob")
    bob, alice = await server.online("bob"), await server.online("alice")
    bob.take()
    server.leave(alice)
    assert bob.told() == ["unavailable alice@a.example/phone -> bob@a.example"]
    assert alice.take() == []
    assert (alice.presence, alice.priority) == (None, None)
    server.presence.unavailable(alice, None)
    assert bob.take() == []


async def test_farewell_words_reach_subscribers(server: World) -> None:
    await server.befriend("alice", "bob")
    bob, alice = await server.online("bob"), await server.online("alice")
    bob.take()
    await server.send(alice, "<presence type='unavailable'><status>gone home</status></presence>")
    assert bob.take()[0][0].text == "gone home"
    await server.send(alice, "<presence/>")
    assert bob.told() == ["available alice@a.example/phone -> bob@a.example"]


@pytest.mark.parametrize("text, value", [("-128", -128), ("127", 127), (" 7 ", 7), ("0", 0), ("+3", 3)])
async def test_priorities(server: World, text: str, value: int) -> None:
    alice = await server.session("alice")
    await server.send(alice, f"<presence><priority>{text}</priority></presence>")
    assert alice.priority == value


@pytest.mark.parametrize("text", ["128", "-129", "high", "", "1.5", "9" * 5000, "٣", "--1"])
async def test_a_priority_that_is_none_is_refused(server: World, text: str) -> None:
    alice = await server.session("alice")
    await server.send(alice, f"<presence id='p'><priority>{text}</priority></presence>")
    assert alice.told() == ["error bad-request alice@a.example -> alice@a.example/phone"]
    assert alice.priority is None


async def test_who_takes_messages_is_announced_once(server: World) -> None:
    heard: list[str] = []
    server.presence.on_initial.append(lambda session: heard.append(session.jid.resource))
    alice = await server.session("alice")
    await server.send(alice, "<presence><priority>-1</priority></presence>")
    assert heard == []
    await server.send(alice, "<presence/>")
    await server.send(alice, "<presence><show>away</show></presence>")
    assert heard == ["phone"]
    await server.send(alice, "<presence type='unavailable'/>")
    await server.send(alice, "<presence/>")
    assert heard == ["phone", "phone"]


async def test_remote_contacts_are_told_and_probed(server: World) -> None:
    alice = await server.online("alice")
    await subscribe_remote(server, alice)
    server.leave(alice)
    assert server.outbox.told() == [f"unavailable alice@a.example/phone -> {ROMEO}"]
    alice = await server.session("alice")
    await server.send(alice, "<presence/>")
    assert server.outbox.told() == [
        f"available alice@a.example/phone -> {ROMEO}",
        f"probe alice@a.example -> {ROMEO}",
    ]


async def test_presence_from_elsewhere_reaches_available_sessions_only(server: World) -> None:
    alice, silent = await server.online("alice"), await server.session("alice", "silent")
    laptop = await server.online("alice", "laptop")
    alice.take()
    text = "<presence to='alice@a.example'><show>chat</show></presence>"
    await server.remote(f"{ROMEO}/orchard", text)
    for session in (alice, laptop):
        [seen] = session.take()
        assert (seen.get("from"), seen.get("to"), seen[0].text) == (f"{ROMEO}/orchard", "alice@a.example", "chat")
    assert silent.take() == []
    await server.remote(f"{ROMEO}/orchard", "<presence to='alice@a.example/silent' type='unavailable'/>")
    assert silent.told() == [f"unavailable {ROMEO}/orchard -> alice@a.example/silent"]
    assert alice.take() == []


# --- directed presence (s4.6) ---------------------------------------------------------------------------------------


async def test_directed_presence_ends_with_the_session(server: World) -> None:
    alice = await server.online("alice")
    await server.send(alice, f"<presence to='{ROOM}/al'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    assert server.outbox.told() == [f"available alice@a.example/phone -> {ROOM}/al"]
    await server.send(alice, "<presence><show>away</show></presence>")
    assert server.outbox.told() == []
    server.leave(alice)
    assert server.outbox.told() == [f"unavailable alice@a.example/phone -> {ROOM}/al"]


async def test_directed_presence_without_being_available(server: World) -> None:
    alice, bob = await server.session("alice"), await server.online("bob")
    await server.send(alice, "<presence to='bob@a.example'/>")
    assert bob.told() == ["available alice@a.example/phone -> bob@a.example"]
    server.leave(alice)
    assert bob.told() == ["unavailable alice@a.example/phone -> bob@a.example"]


async def test_what_was_taken_back_is_not_taken_back_again(server: World) -> None:
    alice = await server.online("alice")
    await server.send(alice, f"<presence to='{ROOM}/al'/>")
    await server.send(alice, f"<presence to='{ROOM}/al' type='unavailable'/>")
    await server.send(alice, f"<presence to='{ROOM}/other'/>")
    await server.remote(f"{ROOM}/other", "<presence to='alice@a.example/phone' type='unavailable'/>")
    server.outbox.told()
    server.leave(alice)
    assert server.outbox.told() == []


async def test_a_subscriber_who_was_also_sent_presence_hears_of_the_end_once(server: World) -> None:
    await server.befriend("alice", "bob")
    bob, alice = await server.online("bob"), await server.online("alice")
    await server.send(alice, "<presence to='bob@a.example'><show>chat</show></presence>")
    bob.take()
    server.leave(alice)
    assert bob.told() == ["unavailable alice@a.example/phone -> bob@a.example"]


async def test_directed_presence_is_bounded(server: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DIRECTED", 3)
    alice = await server.online("alice")
    for number in range(4):
        await server.send(alice, f"<presence to='r{number}@groups.far.example/al'/>")
    assert alice.told() == ["error resource-constraint r3@groups.far.example/al -> alice@a.example/phone"]
    assert len(server.outbox.told()) == 3
    await server.send(alice, "<presence to='r0@groups.far.example/al'/>")
    assert len(server.outbox.told()) == 1


# --- probes (s4.3) --------------------------------------------------------------------------------------------------


async def test_a_subscriber_is_told_what_each_session_shows(server: World) -> None:
    alice = await server.online("alice", presence="<presence id='one'><show>dnd</show></presence>")
    await subscribe_remote(server, alice)
    await server.online("alice", "laptop")
    server.outbox.told()
    await server.remote(ROMEO, "<presence to='alice@a.example' type='probe' id='q'/>")
    answers = [found for _, found in server.outbox.passing]
    assert [(found.get("from"), found.get("id"), found.get("to")) for found in answers] == [
        ("alice@a.example/phone", "one", ROMEO),
        ("alice@a.example/laptop", None, ROMEO),
    ]
    assert answers[0][0].text == "dnd"


async def test_a_probe_of_one_session_tells_only_that_it_is_there(server: World) -> None:
    alice = await server.online("alice", presence="<presence><show>dnd</show></presence>")
    await subscribe_remote(server, alice)
    await server.remote(ROMEO, "<presence to='alice@a.example/phone' type='probe' id='q'/>")
    [(_, answer)] = server.outbox.passing
    assert (answer.get("from"), answer.get("type"), len(answer)) == ("alice@a.example/phone", None, 0)
    server.outbox.told()
    await server.remote(ROMEO, "<presence to='alice@a.example/other' type='probe' id='q'/>")
    assert server.outbox.told() == [f"unavailable alice@a.example/other -> {ROMEO}"]


async def test_a_probe_of_someone_away_tells_since_when(server: World) -> None:
    alice = await server.online("alice")
    await subscribe_remote(server, alice)
    server.leave(alice)
    await server.settle()
    server.outbox.told()
    server.clock.advance(3600)
    await server.remote(ROMEO, "<presence to='alice@a.example' type='probe' id='q'/>")
    [(_, answer)] = server.outbox.passing
    assert (answer.get("from"), answer.get("type"), answer.get("id")) == ("alice@a.example", "unavailable", "q")
    assert (answer[0].tag, answer[0].get("stamp")) == ("{urn:xmpp:delay}delay", "2025-11-20T00:53:20Z")
    await server.privacy.set_last_seen(alice.account, SeenBy.NOBODY)
    server.outbox.told()
    await server.remote(ROMEO, "<presence to='alice@a.example' type='probe' id='q'/>")
    [(_, answer)] = server.outbox.passing
    assert (answer.get("type"), len(answer)) == ("unavailable", 0)


async def test_a_stranger_learns_nothing_from_a_probe(server: World) -> None:
    """S-71, S-77: an account that is there, one that is away, one that asked to see the stranger, and none at all."""
    alice = await server.online("alice")
    await server.account("bob")
    await server.send(alice, f"<presence to='{ROMEO}' type='subscribe'/>")
    alice.take()
    server.outbox.told()
    for name in ("alice", "bob", "nobody"):
        await server.remote(ROMEO, f"<presence to='{name}@a.example' type='probe' id='q'/>")
        assert server.outbox.told() == [f"unsubscribed {name}@a.example -> {ROMEO}"]
    await server.remote(ROMEO, "<presence to='alice@a.example/phone' type='probe' id='q'/>")
    assert server.outbox.told() == [f"unsubscribed alice@a.example -> {ROMEO}"]
    assert alice.take() == []


async def test_a_room_may_ask_whether_its_occupant_is_still_there(server: World) -> None:
    alice = await server.online("alice", presence="<presence><show>dnd</show></presence>")
    await server.send(alice, f"<presence to='{ROOM}/al'/>")
    server.outbox.told()
    await server.remote(f"{ROOM}/al", "<presence to='alice@a.example/phone' type='probe'/>")
    [(_, answer)] = server.outbox.passing
    assert (answer.get("from"), answer.get("to"), len(answer)) == ("alice@a.example/phone", f"{ROOM}/al", 0)


async def test_a_probe_sent_by_a_client_is_answered_for_what_its_account_may_see(server: World) -> None:
    await server.befriend("alice", "bob")
    alice, bob = await server.online("alice"), await server.online("bob")
    alice.take()
    await server.send(alice, "<presence to='bob@a.example' type='probe'/>")
    assert alice.told() == ["available bob@a.example/phone -> alice@a.example"]
    await server.send(alice, f"<presence to='{ROMEO}' type='probe'/>")
    assert server.outbox.told() == [f"probe alice@a.example -> {ROMEO}"]
    assert bob.take() == []


async def test_an_unknown_type_of_presence_is_refused_and_an_error_never_answered(server: World) -> None:
    """S-76: no loops."""
    alice = await server.online("alice")
    await server.send(alice, "<presence type='nonsense'/>")
    assert alice.told() == ["error bad-request alice@a.example -> alice@a.example/phone"]
    await server.remote(ROMEO, "<presence to='alice@a.example' type='nonsense'/>")
    await server.remote(ROMEO, "<presence to='nobody@a.example' type='error'/>")
    await server.remote(ROMEO, "<presence to='alice@a.example/none' type='error'/>")
    assert server.outbox.told() == []


async def test_an_error_that_answers_a_subscription_is_shown(server: World) -> None:
    alice = await server.online("alice")
    text = (
        "<presence to='alice@a.example' type='error'><error type='cancel'>"
        "<remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
    )
    await server.remote(ROMEO, text)
    assert alice.told() == [f"error remote-server-not-found {ROMEO} -> alice@a.example"]
    assert server.outbox.told() == []


# --- other servers out of reach (federation) --------------------------------------------------------------------------


async def test_contacts_of_a_server_out_of_reach_are_shown_unavailable(server: World) -> None:
    alice = await server.online("alice")
    await subscribe_remote(server, alice)
    await subscribe_remote(server, alice, "nurse@near.example")
    await server.send(alice, "<presence to='room@far.example/al'/>")
    server.outbox.told()
    server.presence.peer_unreachable("far.example")
    assert alice.told() == [
        "unavailable room@far.example/al -> alice@a.example/phone",
        f"unavailable {ROMEO} -> alice@a.example",
    ]
    server.presence.peer_returned("far.example")
    assert server.outbox.told() == [f"probe alice@a.example -> {ROMEO}"]
    server.leave(alice)
    assert sorted(server.outbox.told()) == [
        "unavailable alice@a.example/phone -> nurse@near.example",
        f"unavailable alice@a.example/phone -> {ROMEO}",
    ]


# --- who may know -----------------------------------------------------------------------------------------------------


async def test_who_may_ask_a_session(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    mallory = await server.online("mallory")
    assert not alice.is_visible_to(bob.jid)
    await server.befriend("alice", "bob")
    assert alice.is_visible_to(bob.jid)
    assert not alice.is_visible_to(mallory.jid)
    await server.send(alice, "<presence to='mallory@a.example/phone'/>")
    assert alice.is_visible_to(mallory.jid)
    await server.send(alice, "<presence to='mallory@a.example/phone' type='unavailable'/>")
    assert not alice.is_visible_to(mallory.jid)


async def test_last_seen_is_when_the_last_session_left(server: World) -> None:
    phone, laptop = await server.online("alice"), await server.online("alice", "laptop")
    assert await server.presence.last_seen(phone.account, phone.jid) is None
    server.leave(laptop)
    await server.settle()
    assert await server.presence.last_seen(phone.account, phone.jid) is None
    server.clock.advance(60)
    await server.send(phone, "<presence type='unavailable'><status>bye</status></presence>")
    seen = await server.presence.last_seen(phone.account, phone.jid)
    assert seen is not None
    assert (seen.at, seen.status) == (server.clock.now(), "bye")


async def test_one_text_for_all_who_are_told(server: World) -> None:
    """A broadcast is serialised once: what two sessions of a contact get is the same bytes object."""
    await server.befriend("alice", "bob")
    one, two = await server.online("bob", "one"), await server.online("bob", "two")
    alice = await server.session("alice")
    one.take()
    two.take()
    await server.send(alice, "<presence><status>&lt;&amp;&apos;</status></presence>")
    assert one.sent[0] is two.sent[0]
    assert one.take()[0][0].text == "<&'"


async def test_a_session_that_ends_while_it_is_told_leaves_nobody_out(server: World) -> None:
    """A session given more than it may keep ends in the middle of a broadcast."""
    await server.befriend("alice", "bob")
    alice = await server.online("alice")
    first, second, third = [await server.online("bob", name) for name in ("one", "two", "three")]
    for session in (alice, first, second, third):
        session.take()

    def send(_stanza: Stanza) -> None:
        server.leave(first)

    first.send = send  # type: ignore[method-assign]
    await server.send(alice, "<presence><show>away</show></presence>")
    for session in (second, third):
        assert "available alice@a.example/phone -> bob@a.example" in session.told()
    assert "unavailable bob@a.example/one -> alice@a.example" in alice.told()
