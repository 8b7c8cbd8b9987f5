"""Ping, time, version and last activity (XEP-0199, 0202, 0092, 0012)."""

from xml.etree.ElementTree import Element

from homeserver.domain.privacy import SeenBy
from tests.kit.fakes import FakeSession
from tests.kit.world import World

LAST = "<query xmlns='jabber:iq:last'/>"
PING = "<ping xmlns='urn:xmpp:ping'/>"


async def ask(server: World, session: FakeSession, payload: str, to: str = "") -> Element:
    target = f" to='{to}'" if to else ""
    return await server.iq(session, f"<iq type='get' id='q1'{target}>{payload}</iq>")


def condition(answer: Element) -> str:
    error = answer.find("{jabber:client}error")
    assert error is not None
    return error[0].tag.rpartition("}")[2]


async def test_ping(server: World) -> None:
    alice = await server.session("alice")
    for to in ("", "a.example", "alice@a.example"):
        answer = await ask(server, alice, PING, to)
        assert (answer.get("type"), answer.get("id"), len(answer)) == ("result", "q1", 0)
    await server.account("bob")
    for stranger in ("bob@a.example", "nobody@a.example"):
        assert condition(await ask(server, alice, PING, stranger)) == "service-unavailable"


async def test_another_server_pings_ours(server: World) -> None:
    await server.remote("far.example", f"<iq type='get' id='s2s' to='a.example'>{PING}</iq>")
    [(domain, answer)] = server.outbox.passing
    assert (domain, answer.get("type"), answer.get("from"), answer.get("to")) == (
        "far.example", "result", "a.example", "far.example",
    )  # fmt: skip


async def test_time_is_utc(server: World) -> None:
    alice = await server.session("alice")
    answer = await ask(server, alice, "<time xmlns='urn:xmpp:time'/>", "a.example")
    assert [(part.tag, part.text) for part in answer[0]] == [
        ("{urn:xmpp:time}tzo", "+00:00"),
        ("{urn:xmpp:time}utc", "2025-11-20T00:53:20Z"),
    ]


async def test_version_without_operating_system(server: World) -> None:
    alice = await server.session("alice")
    answer = await ask(server, alice, "<query xmlns='jabber:iq:version'/>", "a.example")
    assert [(part.tag.rpartition("}")[2], part.text) for part in answer[0]] == [
        ("name", "Parley"),
        ("version", "1.2.3"),
    ]


async def test_uptime(server: World) -> None:
    alice = await server.session("alice")
    server.clock.advance(123456.7)
    answer = await ask(server, alice, LAST, "a.example")
    assert (answer[0].get("seconds"), answer[0].text) == ("123456", None)


async def test_last_activity_is_for_subscribers(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    for name in ("alice", "nobody"):
        assert condition(await ask(server, bob, LAST, f"{name}@a.example")) == "service-unavailable"
    await server.befriend("alice", "bob")
    assert (await ask(server, bob, LAST, "alice@a.example"))[0].get("seconds") == "0"
    await server.send(alice, "<presence type='unavailable'><status>Heading Home</status></presence>")
    server.clock.advance(903)
    answer = await ask(server, bob, LAST, "alice@a.example")
    assert (answer[0].get("seconds"), answer[0].text) == ("903", "Heading Home")
    await server.privacy.set_last_seen(alice.account, SeenBy.NOBODY)
    assert condition(await ask(server, bob, LAST, "alice@a.example")) == "service-unavailable"
    assert (await ask(server, alice, LAST, "alice@a.example"))[0].get("seconds") == "903"
    await server.account("carol")
    await server.befriend("bob", "carol")
    assert condition(await ask(server, bob, LAST, "carol@a.example")) == "service-unavailable"
