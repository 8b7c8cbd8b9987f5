"""Guests exchange nothing with other servers; who may change whom."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from homeserver.domain.accounts import Role
from homeserver.domain.errors import DomainError, Forbidden, NotAllowed, NotFound
from tests.kit.fakes import FakeSession
from tests.kit.world import World, world

ROMEO = "romeo@far.example/x"
PING = "<ping xmlns='urn:xmpp:ping'/>"


def condition(answer: Element) -> str:
    error = answer.find("{jabber:client}error")
    assert error is not None
    return error[0].tag.rpartition("}")[2]


async def guest(server: World, name: str = "gus") -> FakeSession:
    made = await server.online(name)
    await server.accounts.set_role(f"{name}@a.example", Role.GUEST)
    return made


async def test_a_guest_sends_nothing_to_other_servers(server: World) -> None:
    gus = await guest(server)
    await server.send(gus, "<presence to='romeo@far.example' type='subscribe'/>")
    await server.send(gus, "<presence to='romeo@far.example/x'/>")
    answer = await server.iq(gus, f"<iq type='get' id='p' to='far.example'>{PING}</iq>")
    assert condition(answer) == "not-allowed"
    assert server.outbox.told() == []
    assert await server.contacts.list(gus.account) == []


async def test_a_guest_is_told_why(server: World) -> None:
    gus = await guest(server)
    await server.send(gus, "<presence to='romeo@far.example' type='subscribe'/>")
    assert gus.told() == ["error not-allowed romeo@far.example -> gus@a.example/phone"]


async def test_for_other_servers_a_guest_is_not_there(server: World) -> None:
    gus = await guest(server)
    for text in (
        "<presence to='gus@a.example' type='subscribe'/>",
        "<presence to='gus@a.example/phone'/>",
        f"<iq type='get' id='p' to='gus@a.example'>{PING}</iq>",
        f"<iq type='get' id='p' to='gus@a.example/phone'>{PING}</iq>",
    ):
        await server.remote(ROMEO, text)
    assert gus.take() == []
    assert server.outbox.told() == [
        "iq error service-unavailable gus@a.example -> romeo@far.example/x",
        "iq error service-unavailable gus@a.example/phone -> romeo@far.example/x",
    ]
    assert await server.contacts.requests(gus.account) == []


async def test_a_contact_elsewhere_hears_nothing_of_a_new_guest(server: World) -> None:
    gus = await server.online("gus")
    await server.send(gus, "<presence to='romeo@far.example' type='subscribed'/>")
    await server.remote("romeo@far.example", "<presence to='gus@a.example' type='subscribe'/>")
    server.outbox.told()
    await server.accounts.set_role("gus@a.example", Role.GUEST)
    await server.send(gus, "<presence><show>away</show></presence>")
    assert server.outbox.told() == []
    await server.accounts.set_role("gus@a.example", Role.MEMBER)
    await server.send(gus, "<presence/>")
    assert server.outbox.told() == ["available gus@a.example/phone -> romeo@far.example"]


async def test_guests_have_contacts_here(server: World) -> None:
    gus, bob = await guest(server), await server.online("bob")
    await server.send(gus, "<presence to='bob@a.example' type='subscribe'/>")
    assert bob.told() == ["subscribe gus@a.example -> bob@a.example"]


async def test_guests_are_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "parley.db"
    async with world(path) as server:
        await guest(server)
        await guest(server, "gone")
        await server.accounts.delete("gone@a.example")
        assert server.roles.guests == {"gus@a.example"}
    async with world(path) as server:
        assert server.roles.guests == {"gus@a.example"}


@pytest.mark.parametrize(
    "asker, subject, refusal",
    [
        ("member", "other", Forbidden),
        ("guest", "other", Forbidden),
        ("operator", "admin", Forbidden),
        ("operator", "operator2", Forbidden),
        ("operator", "operator", NotAllowed),
        ("admin", "admin", NotAllowed),
        ("admin", "nobody", NotFound),
        ("operator", "other", None),
        ("admin", "operator", None),
    ],
)
async def test_who_may_change_whom(server: World, asker: str, subject: str, refusal: type[DomainError] | None) -> None:
    known: dict[str, Any] = {}
    for name in ("admin", "operator", "operator2", "member", "guest", "other"):
        await server.account(name)
        role = Role(name.rstrip("2")) if name != "other" else Role.MEMBER
        known[name] = await server.accounts.set_role(f"{name}@a.example", role)
    if refusal is None:
        found = await server.roles.subject(known[asker], f"{subject}@a.example")
        assert found.jid.local == subject
    else:
        with pytest.raises(refusal):
            await server.roles.subject(known[asker], f"{subject}@a.example")
