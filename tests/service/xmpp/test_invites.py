"""Requests that bring a token (XEP-0379) and the commands that make them (XEP-0401), seen from clients and peers."""

from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from homeserver.domain.accounts import Role
from homeserver.domain.invites import InviteKind
from homeserver.services.invites import Wish
from tests.kit.fakes import FakeSession
from tests.kit.world import World, world

COMMANDS = "http://jabber.org/protocol/commands"
FIELD = "{jabber:x:data}field"
VALUE = "{jabber:x:data}value"


def request(token: str, to: str = "ann@a.example") -> str:
    return f"<presence to='{to}' type='subscribe'><preauth xmlns='urn:xmpp:pars:0' token='{token}'/></presence>"


async def contact_token(server: World, uses: int = 1) -> str:
    return (await server.invites.create(await server.account("ann"), Wish(InviteKind.CONTACT, uses))).token


async def test_a_peer_with_a_token_is_granted_and_asked_back(server: World) -> None:
    ann = await server.online("ann")
    await server.remote("romeo@far.example", request(await contact_token(server)))
    assert server.outbox.told() == [
        "subscribed ann@a.example -> romeo@far.example",
        "subscribe ann@a.example -> romeo@far.example",
        "available ann@a.example/phone -> romeo@far.example",
    ]
    assert ann.told() == ["push romeo@far.example from", "push romeo@far.example from ask=subscribe"]
    await server.remote("romeo@far.example", "<presence to='ann@a.example' type='subscribed'/>")
    assert ann.told()[-1] == "push romeo@far.example both"


async def test_it_works_while_the_inviter_is_away(server: World) -> None:
    token = await contact_token(server)
    await server.remote("romeo@far.example", request(token))
    assert server.outbox.told()[:2] == [
        "subscribed ann@a.example -> romeo@far.example",
        "subscribe ann@a.example -> romeo@far.example",
    ]


async def test_one_use_is_one_contact(server: World) -> None:
    token = await contact_token(server)
    ann = await server.online("ann")
    await server.remote("romeo@far.example", request(token))
    await server.remote("tybalt@far.example", request(token))
    server.outbox.told()
    assert ann.told()[-1] == "subscribe tybalt@far.example -> ann@a.example"


async def test_who_is_a_subscriber_already_uses_nothing_up(server: World) -> None:
    token = await contact_token(server)
    await server.befriend("ann", "bob")
    bob = await server.online("bob")
    await server.send(bob, request(token))
    assert await server.invites.find(token) is not None


async def test_who_waits_for_an_answer_already_gets_it(server: World) -> None:
    await server.remote("romeo@far.example", "<presence to='ann@a.example' type='subscribe'/>")
    assert server.outbox.told() == []
    await server.remote("romeo@far.example", request(await contact_token(server)))
    assert sorted(server.outbox.told()) == [
        "subscribe ann@a.example -> romeo@far.example",
        "subscribed ann@a.example -> romeo@far.example",
    ]
    assert await server.contacts.requests(await server.account("ann")) == []


@pytest.mark.parametrize("token", ["guess", "", "x" * 5000, "&quot;"])
async def test_a_wrong_token_counts_as_none(server: World, token: str) -> None:
    """XEP-0379 s4.1."""
    ann = await server.online("ann")
    await server.remote("romeo@far.example", request(token))
    assert ann.told() == ["subscribe romeo@far.example -> ann@a.example"]
    assert server.outbox.told() == []


async def test_a_token_of_somebody_else_counts_as_none(server: World) -> None:
    token = await contact_token(server)
    await server.account("bob")
    await server.remote("romeo@far.example", request(token, "bob@a.example"))
    assert server.outbox.told() == []
    assert await server.invites.find(token) is not None


async def test_between_accounts_here_with_approval_in_advance(server: World) -> None:
    """XEP-0379 s3.4: the asker approves the inviter in advance, so both see each other at once."""
    token = await contact_token(server)
    ann, bob = await server.online("ann"), await server.online("bob")
    await server.send(bob, "<presence to='ann@a.example' type='subscribed'/>")
    await server.send(bob, request(token))
    for who, other in ((ann, "bob@a.example"), (bob, "ann@a.example")):
        [contact] = await server.contacts.list(who.account)
        assert (contact.jid.bare, contact.state.subscription) == (other, "both")
    assert not any(line.startswith("subscribe ") for line in [*ann.told(), *bob.told()])


# --- commands -------------------------------------------------------------------------------------------------------


async def run(server: World, session: FakeSession, node: str, content: str = "", more: str = "") -> Element:
    answer = await server.iq(
        session,
        f"<iq type='set' id='c' to='a.example'><command xmlns='{COMMANDS}' node='urn:xmpp:invite#{node}' {more}>"
        f"{content}</command></iq>",
    )
    return answer[0]


def fields(command: Element) -> dict[str, str]:
    return {found.get("var", ""): found.findtext(VALUE, "") for found in command.iter(FIELD)}


async def test_inviting_at_once(server: World) -> None:
    ann = await server.session("ann")
    done = await run(server, ann, "invite")
    assert done.get("status") == "completed"
    found = fields(done)
    token = found["landing-url"].rpartition("/")[2]
    assert found == {
        "FORM_TYPE": "urn:xmpp:invite#invitation",
        "uri": f"xmpp:ann@a.example?roster;preauth={token};ibr=y",
        "landing-url": f"https://a.example/invite/{token}",
        "expire": found["expire"],
    }
    assert found["expire"].endswith("Z")
    assert await server.registrations.offer(token, "a.example") is not None


async def test_creating_an_account_for_somebody(server: World) -> None:
    ann = await server.session("ann")
    await server.accounts.set_role("ann@a.example", Role.OPERATOR)
    asked = await run(server, ann, "create-account")
    assert asked.get("status") == "executing"
    assert set(fields(asked)) >= {"username", "roster-subscription"}
    form = (
        "<x xmlns='jabber:x:data' type='submit'><field var='username'><value>juliet</value></field>"
        "<field var='roster-subscription'><value>1</value></field><field var='unknown'><value>x</value></field></x>"
    )
    done = await run(server, ann, "create-account", form, f"sessionid='{asked.get('sessionid')}'")
    found = fields(done)
    token = found["landing-url"].rpartition("/")[2]
    assert found["uri"] == f"xmpp:juliet@a.example?register;preauth={token}"
    with pytest.raises(Exception, match="taken"):
        await server.registrations.register("juliet", "a.example", "password")
    made = await server.registrations.register("juliet", "a.example", "password", token)
    assert [one.jid.bare for one in await server.contacts.list(made)] == ["ann@a.example"]


@pytest.mark.parametrize("role, node", [(Role.GUEST, "invite"), (Role.MEMBER, "create-account")])
async def test_commands_are_for_who_may_invite(server: World, role: Role, node: str) -> None:
    ann = await server.session("ann")
    await server.accounts.set_role("ann@a.example", role)
    answer = await run(server, ann, node)
    assert answer.tag == "{jabber:client}error" or answer.get("status") is None
    assert await server.invites.list(ann.account) == []


async def test_without_registration_the_command_invites_to_a_contact(tmp_path: Path) -> None:
    async with world(tmp_path / "data" / "parley.db", registration="closed") as server:
        ann = await server.session("ann")
        assert "ibr" not in fields(await run(server, ann, "invite"))["uri"]
