"""Roster get, set and push over the dispatcher (RFC 6121 s2)."""

from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from homeserver.storage import contacts as storage
from tests.kit.fakes import FakeSession, short
from tests.kit.world import World, world

ROSTER = "{jabber:iq:roster}"


def condition(answer: Element) -> str:
    error = answer.find("{jabber:client}error")
    assert error is not None
    return error[0].tag.rpartition("}")[2]


def items(answer: Element) -> dict[str, Element]:
    return {item.get("jid", ""): item for item in answer.iterfind(f"{ROSTER}query/{ROSTER}item")}


async def roster(server: World, session: FakeSession, ver: str | None = None) -> Element:
    asked = "" if ver is None else f" ver='{ver}'"
    return await server.iq(session, f"<iq type='get' id='g'><query xmlns='jabber:iq:roster'{asked}/></iq>")


async def change(server: World, session: FakeSession, item: str) -> Element:
    return await server.iq(session, f"<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>")


async def test_an_empty_roster_is_a_query_without_items(server: World) -> None:
    alice = await server.session("alice")
    answer = await roster(server, alice)
    query = answer.find(f"{ROSTER}query")
    assert query is not None
    assert len(query) == 0
    assert query.get("ver")


async def test_an_item_is_stored_as_given_and_pushed_to_all_who_asked(server: World) -> None:
    alice = await server.session("alice")
    tablet = await server.session("alice", "tablet")
    deaf = await server.session("alice", "bot", roster=False)
    text = "<item jid='Nurse@example.com' name='Nurse &amp; friend'><group>Servants</group><group>Old</group></item>"
    answer = await change(server, alice, text)
    assert (answer.get("type"), len(answer)) == ("result", 0)
    [push] = tablet.take()
    assert (push.get("type"), push.get("to")) == ("set", "alice@a.example/tablet")
    assert push.get("from") == "alice@a.example"
    pushed = items(push)["nurse@example.com"]
    assert pushed.attrib == {"jid": "nurse@example.com", "subscription": "none", "name": "Nurse & friend"}
    assert [group.text for group in pushed] == ["Servants", "Old"]
    assert deaf.take() == []
    assert items(await roster(server, tablet)).keys() == {"nurse@example.com"}

    await change(server, alice, "<item jid='nurse@example.com'/>")
    replaced = items(await roster(server, alice))["nurse@example.com"]
    assert replaced.attrib == {"jid": "nurse@example.com", "subscription": "none"}
    assert len(replaced) == 0


async def test_a_client_cannot_make_itself_a_subscription(server: World) -> None:
    """S-71: only ``remove`` counts of what a roster set says about subscriptions (RFC 6121 s2.1.5)."""
    alice, bob = await server.online("alice"), await server.online("bob")
    await change(server, alice, "<item jid='bob@a.example' subscription='both' ask='subscribe' approved='true'/>")
    item = items(await roster(server, alice))["bob@a.example"]
    assert item.attrib == {"jid": "bob@a.example", "subscription": "none"}
    await server.send(bob, "<presence><show>away</show></presence>")
    assert alice.take() == []


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "bad-request"),
        ("<item jid='a@x.example'/><item jid='b@x.example'/>", "bad-request"),
        ("<item/>", "bad-request"),
        ("<item jid='a@x.example'><group>G</group><group>G</group></item>", "bad-request"),
        ("<item jid='a@x.example'><group/></item>", "not-acceptable"),
        (f"<item jid='a@x.example'><group>{'g' * 1024}</group></item>", "not-acceptable"),
        (f"<item jid='a@x.example' name='{'n' * 1024}'/>", "not-acceptable"),
        (
            "<item jid='a@x.example'>" + "".join(f"<group>{n}</group>" for n in range(65)) + "</item>",
            "not-acceptable",
        ),
        ("<item jid='@x.example'/>", "jid-malformed"),
        ("<item jid='a@x.example/'/>", "jid-malformed"),
        ("<item jid='a@@x.example'/>", "jid-malformed"),
        ("<item jid=''/>", "jid-malformed"),
        ("<item jid='alice@a.example'/>", "not-allowed"),
        ("<item jid='unknown@x.example' subscription='remove'/>", "item-not-found"),
    ],
)
async def test_what_a_roster_set_may_not_say(server: World, content: str, expected: str) -> None:
    """S-62, S-63 and RFC 6121 s2.3.3, s2.5.3: the error, and nothing changes."""
    alice = await server.session("alice")
    assert condition(await change(server, alice, content)) == expected
    assert items(await roster(server, alice)) == {}


async def test_a_get_with_items_is_refused(server: World) -> None:
    alice = await server.session("alice")
    text = "<iq type='get' id='g'><query xmlns='jabber:iq:roster'><item jid='a@x.example'/></query></iq>"
    assert condition(await server.iq(alice, text)) == "bad-request"


async def test_a_roster_is_for_its_owner(server: World) -> None:
    """S-69; a stranger cannot tell an account from none (S-77), a subscriber is told the truth."""
    mallory = await server.online("mallory")
    await server.account("alice")
    for kind, content in (("get", ""), ("set", "<item jid='mallory@a.example'/>")):
        answers = [
            condition(
                await server.iq(
                    mallory,
                    f"<iq type='{kind}' id='x' to='{name}@a.example'>"
                    f"<query xmlns='jabber:iq:roster'>{content}</query></iq>",
                )
            )
            for name in ("alice", "nobody")
        ]
        assert answers == ["service-unavailable", "service-unavailable"]
    await server.befriend("mallory", "alice")
    text = "<iq type='set' id='x' to='alice@a.example'><query xmlns='jabber:iq:roster'><item jid='m@x.example'/></query></iq>"
    assert condition(await server.iq(mallory, text)) == "forbidden"
    assert "m@x.example" not in items(await roster(server, await server.session("alice", "tablet")))


async def test_a_push_from_a_stranger_changes_nothing(server: World) -> None:
    """S-67: an IQ set of a roster to a full JID does not reach a client that did not show itself to the sender."""
    mallory, alice = await server.online("mallory"), await server.online("alice")
    text = (
        "<iq type='set' id='x' to='alice@a.example/phone' from='alice@a.example'>"
        "<query xmlns='jabber:iq:roster'><item jid='m@x.example' subscription='both'/></query></iq>"
    )
    assert condition(await server.iq(mallory, text)) == "service-unavailable"
    assert alice.take() == []


async def test_removal_ends_both_subscriptions(server: World) -> None:
    await server.befriend("alice", "bob")
    alice, bob = await server.online("alice"), await server.online("bob")
    alice.take()
    alice.sent.clear()
    await change(server, alice, "<item jid='bob@a.example' subscription='remove'/>")
    assert items(await roster(server, alice)) == {}
    assert bob.told() == [
        "unavailable alice@a.example/phone -> bob@a.example",
        "unsubscribe alice@a.example -> bob@a.example",
        "push alice@a.example to",
        "unsubscribed alice@a.example -> bob@a.example",
        "push alice@a.example none",
    ]


async def test_removal_tells_a_remote_contact(server: World) -> None:
    alice = await server.online("alice")
    await server.send(alice, "<presence to='romeo@far.example' type='subscribe'/>")
    server.outbox.told()
    await change(server, alice, "<item jid='romeo@far.example' subscription='remove'/>")
    assert server.outbox.told() == ["unsubscribe alice@a.example -> romeo@far.example"]


# --- versions (RFC 6121 s2.6) ---------------------------------------------------------------------------------------


def version(answer: Element) -> str:
    query = answer.find(f"{ROSTER}query")
    assert query is not None
    return query.get("ver", "")


async def test_nothing_changed_is_an_empty_result(server: World) -> None:
    alice = await server.session("alice")
    await change(server, alice, "<item jid='a@x.example'/>")
    ver = version(await roster(server, alice))
    tablet = await server.session("alice", "tablet", roster=False)
    answer = await roster(server, tablet, ver)
    assert (answer.get("type"), len(answer)) == ("result", 0)
    await server.settle()
    assert tablet.sent == []
    await change(server, alice, "<item jid='b@x.example'/>")
    assert len(tablet.take()) == 1


async def test_what_changed_follows_the_empty_result_in_order(server: World) -> None:
    alice = await server.session("alice")
    for name in ("a", "b", "c", "d"):
        await change(server, alice, f"<item jid='{name}@x.example'/>")
    ver = version(await roster(server, alice))
    await change(server, alice, "<item jid='c@x.example' name='1'/>")
    await change(server, alice, "<item jid='a@x.example' name='2'/>")
    await change(server, alice, "<item jid='c@x.example' name='3'/>")
    await change(server, alice, "<item jid='b@x.example' subscription='remove'/>")

    tablet = await server.session("alice", "tablet", roster=False)
    await server._finished(server.dispatcher.iq(tablet, _get(tablet, ver), None))
    result, *pushes = tablet.take()
    assert (result.get("type"), len(result)) == ("result", 0)
    assert [short(push) for push in pushes] == [
        "push a@x.example none name=2",
        "push c@x.example none name=3",
        "push b@x.example remove",
    ]
    versions = [int(version(push)) for push in pushes]
    assert versions == sorted(set(versions))
    assert str(versions[-1]) == version(await roster(server, alice))


def _get(session: FakeSession, ver: str):  # type: ignore[no-untyped-def]
    from tests.kit.fakes import stanza

    return stanza(f"<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>", session.jid)


@pytest.mark.parametrize("ver", ["", "0", "99999999999999999999999", "nonsense", "9007199254740992", "-1"])
async def test_an_unknown_version_gets_the_whole_roster(server: World, ver: str) -> None:
    alice = await server.session("alice")
    await change(server, alice, "<item jid='a@x.example'/>")
    assert items(await roster(server, alice, ver)).keys() == {"a@x.example"}


async def test_a_version_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "parley.db"
    async with world(path) as server:
        alice = await server.session("alice")
        await change(server, alice, "<item jid='a@x.example' name='A'><group>G</group></item>")
        await change(server, alice, "<item jid='b@x.example'/>")
        ver = version(await roster(server, alice))
        await change(server, alice, "<item jid='b@x.example' subscription='remove'/>")
    async with world(path) as server:
        alice = await server.session("alice", roster=False)
        await server._finished(server.dispatcher.iq(alice, _get(alice, ver), None))
        assert [short(found) for found in alice.take()[1:]] == ["push b@x.example remove"]
        found = items(await roster(server, alice))
        assert [(item.get("name"), item[0].text) for item in found.values()] == [("A", "G")]


async def test_a_subscription_moves_the_version_and_a_request_does_not(server: World) -> None:
    alice = await server.session("alice")
    await change(server, alice, "<item jid='romeo@far.example'/>")
    before = version(await roster(server, alice))
    await server.remote("romeo@far.example", "<presence to='alice@a.example' type='subscribe'/>")
    assert version(await roster(server, alice)) == before
    await server.send(alice, "<presence to='romeo@far.example' type='subscribed'/>")
    assert int(version(await roster(server, alice))) > int(before)


async def test_removals_are_remembered_within_bounds(server: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "REMOVED_KEPT", 3)
    alice = await server.session("alice")
    await change(server, alice, "<item jid='keep@x.example'/>")
    old = version(await roster(server, alice))
    for number in range(8):
        await change(server, alice, f"<item jid='c{number}@x.example'/>")
        await change(server, alice, f"<item jid='c{number}@x.example' subscription='remove'/>")
    assert items(await roster(server, alice, old)).keys() == {"keep@x.example"}
    held = server.contacts.held("alice@a.example")
    stored = await server.database.read(storage.load, alice.account.id)
    assert held is not None
    assert (held.version, held.floor) == (stored.version, stored.floor)
    assert len(held._contacts) == len(stored._contacts) < 8
