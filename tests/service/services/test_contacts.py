"""Subscriptions between accounts here and with other servers (RFC 6121 s3), seen from the clients and from the peer."""

import asyncio
from pathlib import Path

import pytest

from config.settings import ContactSettings
from homeserver.domain.errors import NotAllowed, NotFound, ResourceConstraint
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID
from tests.kit.fakes import stanza
from tests.kit.world import World, world

ROMEO = "romeo@far.example"


async def state_of(server: World, name: str, contact: str) -> str:
    account = await server.account(name)
    found = (await server.contacts.roster(account)).get(contact)
    return "absent" if found is None else found.state.name


async def subscription(server: World, name: str, contact: str) -> str:
    """How the contact stands in the stored roster, with the flags that show."""
    account = await server.account(name)
    for item in await server.contacts.list(account):
        if item.jid.bare == contact:
            words = [item.state.subscription]
            words += ["ask"] if item.state.is_asking else []
            words += ["approved"] if item.approved else []
            return " ".join(words)
    return "absent"


async def test_a_mutual_subscription_between_accounts_here(server: World) -> None:
    alice = await server.online("alice")
    bob = await server.online("bob")

    await server.send(alice, "<presence to='bob@a.example' type='subscribe' id='s1'/>")
    assert alice.told() == ["push bob@a.example none ask=subscribe"]
    assert bob.told() == ["subscribe alice@a.example -> bob@a.example"]
    assert await subscription(server, "bob", "alice@a.example") == "absent"

    await server.send(bob, "<presence to='alice@a.example' type='subscribed'/>")
    assert bob.told() == ["push alice@a.example from"]
    assert alice.told() == [
        "subscribed bob@a.example -> alice@a.example",
        "push bob@a.example to",
        "available bob@a.example/phone -> alice@a.example",
    ]

    await server.send(bob, "<presence to='alice@a.example' type='subscribe'/>")
    await server.send(alice, "<presence to='bob@a.example' type='subscribed'/>")
    assert await subscription(server, "alice", "bob@a.example") == "both"
    assert await subscription(server, "bob", "alice@a.example") == "both"


async def test_the_request_carries_what_the_asker_wrote(server: World) -> None:
    alice = await server.online("alice")
    bob = await server.online("bob")
    await server.send(
        alice,
        "<presence to='bob@a.example/phone' type='subscribe' id='s1'><status>hi</status>"
        "<nick xmlns='http://jabber.org/protocol/nick'>Al</nick></presence>",
    )
    [request] = bob.take()
    assert (request.get("from"), request.get("to"), request.get("id")) == ("alice@a.example", "bob@a.example", "s1")
    assert [child.text for child in request] == ["hi", "Al"]


async def test_a_request_waits_for_someone_who_is_away_and_comes_until_it_is_answered(server: World) -> None:
    bob = await server.session("bob")
    server.leave(bob)
    text = f"<presence from='{ROMEO}' to='bob@a.example' type='subscribe' id='s1'><status>it is me</status></presence>"
    await server.remote(ROMEO, text)
    await server.remote(ROMEO, text.replace("s1", "s2"))

    for _ in range(2):
        bob = await server.session("bob")
        await server.send(bob, "<presence/>")
        requests = [found for found in bob.take() if found.get("type") == "subscribe"]
        assert [(found.get("from"), found.get("to"), found.get("id")) for found in requests] == [
            (ROMEO, "bob@a.example", "s1")
        ]
        assert requests[0][0].text == "it is me"
        server.leave(bob)

    bob = await server.online("bob")
    await server.send(bob, f"<presence to='{ROMEO}' type='unsubscribed'/>")
    assert "unsubscribed bob@a.example -> romeo@far.example" in server.outbox.told()
    server.leave(bob)
    again = await server.session("bob")
    await server.send(again, "<presence/>")
    assert not [line for line in again.told() if line.startswith("subscribe")]


async def test_a_request_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "parley.db"
    async with world(path) as server:
        await server.account("bob")
        await server.remote(ROMEO, f"<presence from='{ROMEO}' to='bob@a.example' type='subscribe' id='s1'/>")
    async with world(path) as server:
        bob = await server.session("bob")
        await server.send(bob, "<presence/>")
        assert f"subscribe {ROMEO} -> bob@a.example" in bob.told()


async def test_a_peer_may_repeat_everything(server: World) -> None:
    alice = await server.online("alice")
    await server.send(alice, f"<presence to='{ROMEO}' type='subscribe'/>")
    alice.take()
    granted = f"<presence from='{ROMEO}' to='alice@a.example' type='subscribed'/>"
    asked = f"<presence from='{ROMEO}' to='alice@a.example' type='subscribe'/>"
    ended = f"<presence from='{ROMEO}' to='alice@a.example' type='unsubscribed'/>"

    await server.remote(ROMEO, granted)
    assert alice.told() == [f"subscribed {ROMEO} -> alice@a.example", f"push {ROMEO} to"]
    await server.remote(ROMEO, granted)
    assert alice.told() == []

    await server.remote(ROMEO, asked)
    assert alice.told() == [f"subscribe {ROMEO} -> alice@a.example"]
    await server.remote(ROMEO, asked)
    assert alice.told() == []

    await server.send(alice, f"<presence to='{ROMEO}' type='subscribed'/>")
    server.outbox.told()
    alice.take()
    await server.remote(ROMEO, asked)
    assert alice.told() == []
    assert server.outbox.told() == [
        f"subscribed alice@a.example -> {ROMEO}",
        f"available alice@a.example/phone -> {ROMEO}",
    ]

    await server.remote(ROMEO, ended)
    assert alice.told() == [f"unsubscribed {ROMEO} -> alice@a.example", f"push {ROMEO} from"]
    await server.remote(ROMEO, ended)
    assert alice.told() == []


async def test_ending_what_a_contact_may_see_tells_unavailable_first(server: World) -> None:
    await server.befriend("alice", "bob")
    alice, bob = await server.online("alice"), await server.online("bob")
    alice.take()
    await server.send(bob, "<presence to='alice@a.example' type='unsubscribed'/>")
    assert alice.told() == [
        "unavailable bob@a.example/phone -> alice@a.example",
        "unsubscribed bob@a.example -> alice@a.example",
        "push bob@a.example from",
    ]
    assert bob.told() == ["push alice@a.example to"]


async def test_unsubscribe_is_answered_and_presence_ends(server: World) -> None:
    alice = await server.online("alice")
    await server.remote(ROMEO, f"<presence from='{ROMEO}' to='alice@a.example' type='subscribe'/>")
    await server.send(alice, f"<presence to='{ROMEO}' type='subscribed'/>")
    assert server.outbox.told() == [
        f"subscribed alice@a.example -> {ROMEO}",
        f"available alice@a.example/phone -> {ROMEO}",
    ]
    alice.take()
    await server.remote(ROMEO, f"<presence from='{ROMEO}' to='alice@a.example' type='unsubscribe'/>")
    assert alice.told() == [f"unsubscribe {ROMEO} -> alice@a.example", f"push {ROMEO} none"]
    assert server.outbox.told() == [
        f"unsubscribed alice@a.example -> {ROMEO}",
        f"unavailable alice@a.example/phone -> {ROMEO}",
    ]


async def test_pre_approval_grants_without_asking(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await server.send(bob, "<presence to='alice@a.example' type='subscribed'/>")
    assert bob.told() == ["push alice@a.example none approved=true"]
    assert alice.told() == []

    await server.send(alice, "<presence to='bob@a.example' type='subscribe'/>")
    assert bob.told() == ["push alice@a.example from approved=true"]
    assert alice.told() == [
        "push bob@a.example none ask=subscribe",
        "subscribed bob@a.example -> alice@a.example",
        "push bob@a.example to",
        "available bob@a.example/phone -> alice@a.example",
    ]
    await server.send(bob, "<presence to='alice@a.example' type='unsubscribed'/>")
    assert await subscription(server, "bob", "alice@a.example") == "none"


async def test_a_pre_approval_can_be_taken_back_unseen(server: World) -> None:
    bob = await server.online("bob")
    await server.send(bob, f"<presence to='{ROMEO}' type='subscribed'/>")
    await server.send(bob, f"<presence to='{ROMEO}' type='unsubscribed'/>")
    assert bob.told() == [f"push {ROMEO} none approved=true", f"push {ROMEO} none"]
    assert server.outbox.told() == []


@pytest.mark.parametrize("kind", ["subscribed", "unsubscribed", "unsubscribe"])
async def test_what_nobody_asked_for_changes_nothing(server: World, kind: str) -> None:
    """S-71: unsolicited subscribed and its relatives."""
    alice = await server.online("alice")
    await server.remote(ROMEO, f"<presence from='{ROMEO}' to='alice@a.example' type='{kind}'/>")
    assert alice.told() == []
    assert server.outbox.told() == []
    assert await state_of(server, "alice", ROMEO) == "absent"


@pytest.mark.parametrize("kind", ["subscribe", "subscribed", "unsubscribed", "unsubscribe"])
async def test_an_account_that_does_not_exist_is_silent(server: World, kind: str) -> None:
    """S-77: the same silence as from someone who has not answered."""
    alice = await server.online("alice")
    await server.remote(ROMEO, f"<presence from='{ROMEO}' to='nobody@a.example' type='{kind}'/>")
    assert server.outbox.told() == []
    await server.send(alice, f"<presence to='nobody@a.example' type='{kind}'/>")
    assert not [line for line in alice.told() if "error" in line]


async def test_two_domains_of_one_server_are_strangers_to_each_other(server: World) -> None:
    alice, other = await server.online("alice"), await server.online("alice@b.example")
    await server.send(alice, "<presence to='alice@b.example' type='subscribe'/>")
    assert other.told() == ["subscribe alice@a.example -> alice@b.example"]
    assert await subscription(server, "alice@b.example", "alice@a.example") == "absent"


async def test_the_json_faces_verbs(server: World) -> None:
    alice, bob = await server.account("alice"), await server.account("bob")
    heard = []
    server.contacts.on_change.append(lambda change: heard.append((change.account.jid.local, change.after.state.name)))
    await server.contacts.request(alice, bob.jid, "hello")
    assert [item.jid for item in await server.contacts.requests(bob)] == [alice.jid]
    assert await server.contacts.list(bob) == []
    await server.contacts.accept(bob, alice.jid)
    assert [(item.jid, item.state) for item in await server.contacts.list(bob)] == [(alice.jid, State.FROM)]
    assert heard == [("alice", "NONE_OUT"), ("bob", "NONE_IN"), ("bob", "FROM"), ("alice", "TO")]
    with pytest.raises(NotFound):
        await server.contacts.accept(bob, alice.jid)
    with pytest.raises(NotFound):
        await server.contacts.decline(bob, JID.parse("nobody@a.example"))
    await server.contacts.remove(alice, bob.jid)
    assert await server.contacts.list(alice) == []
    assert [item.state for item in await server.contacts.list(bob)] == [State.NONE]


async def test_nobody_is_a_contact_of_himself(server: World) -> None:
    alice = await server.online("alice")
    with pytest.raises(NotAllowed):
        await server.contacts.request(alice.account, alice.account.jid)
    await server.send(alice, "<presence to='alice@a.example' type='subscribe'/>")
    assert alice.told() == ["error not-allowed alice@a.example -> alice@a.example/phone"]


async def test_requests_of_strangers_are_bounded(tmp_path: Path) -> None:
    limits = ContactSettings(requests=3, items=2, request_bytes=300)
    async with world(tmp_path / "data" / "parley.db", limits=limits) as server:
        await server.account("bob")
        for number in range(5):
            text = f"<presence to='bob@a.example' type='subscribe'><status>{'x' * 1000}</status></presence>"
            await server.remote(f"spam{number}@far.example", text)
        bob = await server.session("bob")
        await server.send(bob, "<presence/>")
        requests = [found for found in bob.take() if found.get("type") == "subscribe"]
        assert len(requests) == 3
        assert all(len(found) == 0 for found in requests)

        account = await server.account("bob")
        await server.contacts.set(account, JID.parse("one@far.example"))
        await server.contacts.set(account, JID.parse("two@far.example"))
        with pytest.raises(ResourceConstraint):
            await server.contacts.set(account, JID.parse("three@far.example"))
        await server.send(bob, "<presence to='three@far.example' type='subscribe'/>")
        assert bob.told()[-1] == "error resource-constraint three@far.example -> bob@a.example/phone"


async def test_an_account_that_ends_takes_leave_of_its_contacts(server: World) -> None:
    await server.befriend("alice", "bob")
    alice, bob = await server.online("alice"), await server.online("bob")
    await server.send(alice, f"<presence to='{ROMEO}' type='subscribe'/>")
    server.outbox.told()
    alice.take()
    bob.take()
    await server.contacts.clear(alice.account)
    assert bob.told() == [
        "unavailable alice@a.example/phone -> bob@a.example",
        "unsubscribe alice@a.example -> bob@a.example",
        "push alice@a.example to",
        "unsubscribed alice@a.example -> bob@a.example",
        "push alice@a.example none",
    ]
    assert server.outbox.told() == [f"unsubscribe alice@a.example -> {ROMEO}"]
    assert await server.contacts.list(alice.account) == []


async def test_a_lost_request_is_asked_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "parley.db"
    async with world(path) as server:
        alice = await server.online("alice")
        await server.send(alice, f"<presence to='{ROMEO}' type='subscribe'/>")
    async with world(path) as server:
        alice = await server.online("alice")
        assert server.outbox.told() == [f"subscribe alice@a.example -> {ROMEO}"]
        await server.online("alice", "laptop")
        assert server.outbox.told() == []


async def test_changes_of_one_roster_reach_clients_in_order(server: World) -> None:
    """Versions of pushes grow, whatever was asked for at the same time."""
    alice = await server.online("alice")
    await asyncio.gather(
        *(server.contacts.set(alice.account, JID.parse(f"c{number}@far.example")) for number in range(20))
    )
    versions = [int(found[0].get("ver", "")) for found in alice.take()]
    assert len(set(versions)) == 20
    assert versions == sorted(versions)


async def test_nobody_hears_of_what_was_not_committed(server: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await server.online("alice")

    async def full(*_work: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(server.database, "write", full)
        with pytest.raises(OSError, match="disk full"):
            await server.contacts.request(alice.account, JID.parse(ROMEO))
        with pytest.raises(OSError, match="disk full"):
            await server.contacts.set(alice.account, JID.parse(ROMEO), "R")
        with pytest.raises(OSError, match="disk full"):
            await server.contacts.inbound(stanza("<presence to='alice@a.example' type='subscribe'/>", JID.parse(ROMEO)))
    assert alice.told() == []
    assert server.outbox.told() == []
    assert await state_of(server, "alice", ROMEO) == "absent"
    await server.contacts.request(alice.account, JID.parse(ROMEO))
    assert alice.told() == [f"push {ROMEO} none ask=subscribe"]
