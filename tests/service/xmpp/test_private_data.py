"""Private XML storage through the dispatcher (XEP-0049)."""

from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from config.feature_settings import ProfileSettings
from homeserver.protocol.xml import serialise
from tests.kit.fakes import FakeSession
from tests.kit.pubsub import said
from tests.kit.world import World, world

ONE = "<a xmlns='urn:test:one'>text<b/>tail</a>"


async def query(server: World, who: FakeSession, kind: str, content: str, to: str = "") -> Element:
    target = f" to='{to}'" if to else ""
    return await server.iq(
        who, f"<iq type='{kind}' id='p'{target}><query xmlns='jabber:iq:private'>{content}</query></iq>"
    )


def stored(answer: Element) -> list[str]:
    assert said(answer) == "result"
    return [serialise(part, "") for part in answer[0]]


@pytest.fixture
async def alice(server: World) -> FakeSession:
    return await server.session("alice")


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "p.db", profile_settings=ProfileSettings(private_bytes=1024)) as found:
        yield found


async def test_what_was_stored_is_read(server: World, alice: FakeSession) -> None:
    assert stored(await query(server, alice, "get", "<a xmlns='urn:test:one'/>")) == ["<a xmlns='urn:test:one'/>"]
    assert said(await query(server, alice, "set", ONE)) == "result"
    assert said(await query(server, alice, "set", "<b xmlns='urn:test:one'/>")) == "result"
    assert stored(await query(server, alice, "get", "<a xmlns='urn:test:one'/>")) == [ONE]
    assert stored(await query(server, alice, "get", "<a xmlns='urn:test:one'/>", "alice@a.example")) == [ONE]
    assert said(await query(server, alice, "set", "<a xmlns='urn:test:one'/>")) == "result"
    assert stored(await query(server, alice, "get", "<a xmlns='urn:test:one'/>")) == ["<a xmlns='urn:test:one'/>"]


async def test_several_at_once(server: World, alice: FakeSession) -> None:
    both = ONE + "<a xmlns='urn:test:one' n='2'/>" + "<c xmlns='urn:test:two'/>"
    assert said(await query(server, alice, "set", both)) == "result"
    assert stored(await query(server, alice, "get", "<a xmlns='urn:test:one'/>")) == [
        ONE,
        "<a xmlns='urn:test:one' n='2'/>",
    ]


async def test_what_names_nothing_is_refused(server: World, alice: FakeSession) -> None:
    for kind in ("get", "set"):
        for content in ("", "<a/>", "<a xmlns=''/>"):
            assert said(await query(server, alice, kind, content)) == "not-acceptable/modify"
    asked = "<a xmlns='urn:test:one'/><c xmlns='urn:test:two'/>"
    assert said(await query(server, alice, "get", asked)) == "not-acceptable/modify"


async def test_s69_it_is_nobody_elses(server: World, alice: FakeSession) -> None:
    await query(server, alice, "set", ONE)
    bob = await server.session("bob")
    for kind in ("get", "set"):
        for to in ("alice@a.example", "nobody@a.example"):
            assert said(await query(server, bob, kind, ONE, to)) == "service-unavailable/cancel"
    await server.remote(
        "eve@far.example/x",
        f"<iq type='get' id='p' to='alice@a.example'><query xmlns='jabber:iq:private'>{ONE}</query></iq>",
    )
    assert said(server.outbox.passing[-1][1]) == "service-unavailable/cancel"
    assert stored(await query(server, bob, "get", "<a xmlns='urn:test:one'/>")) == ["<a xmlns='urn:test:one'/>"]


async def test_s145_there_is_a_quota(small: World) -> None:
    alice = await small.session("alice")
    some = "<{0} xmlns='urn:test'>" + "x" * 400 + "</{0}>"
    assert said(await query(small, alice, "set", some.format("a"))) == "result"
    assert said(await query(small, alice, "set", some.format("b"))) == "result"
    assert said(await query(small, alice, "set", some.format("c"))) == "resource-constraint/wait"
    assert stored(await query(small, alice, "get", "<c xmlns='urn:test'/>")) == ["<c xmlns='urn:test'/>"]
    assert said(await query(small, alice, "set", "<a xmlns='urn:test'/>")) == "result"
    assert said(await query(small, alice, "set", some.format("c"))) == "result"


async def test_a_deleted_account_leaves_nothing(server: World, alice: FakeSession) -> None:
    await query(server, alice, "set", ONE)
    await server.accounts.delete(alice.account.jid.bare)
    await server.profiles.private.settle()
    assert await server.profiles.private.find(alice.account, "{urn:test:one}a") is None
