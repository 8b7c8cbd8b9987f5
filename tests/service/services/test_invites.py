"""Invitations: who may make which, what their URIs say, and how they end."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeserver.domain.accounts import Account, Role
from homeserver.domain.errors import (
    Conflict,
    DomainError,
    Forbidden,
    NotAcceptable,
    NotAllowed,
    NotFound,
)
from homeserver.domain.invites import InviteKind
from homeserver.services.invites import GRACE, Wish
from tests.kit.world import World, world

ACCOUNT, CONTACT, BOTH, PASSWORD = InviteKind


async def person(server: World, name: str, role: Role) -> Account:
    await server.account(name)
    return await server.accounts.set_role(f"{name}@a.example", role)


@pytest.fixture
async def by_invitation(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "data" / "parley.db", registration="invite") as found:
        yield found


@pytest.mark.parametrize(
    "wish, uri",
    [
        (Wish(), "xmpp:ann@a.example?roster;preauth={};ibr=y"),
        (Wish(CONTACT), "xmpp:ann@a.example?roster;preauth={}"),
        (Wish(ACCOUNT), "xmpp:a.example?register;preauth={}"),
        (Wish(ACCOUNT, username="Bob"), "xmpp:bob@a.example?register;preauth={}"),
        (Wish(BOTH, username="x%?y"), "xmpp:x%25%3Fy@a.example?register;preauth={}"),
    ],
)
async def test_what_clients_and_people_open(by_invitation: World, wish: Wish, uri: str) -> None:
    ann = await person(by_invitation, "ann", Role.OPERATOR)
    made = await by_invitation.invites.create(ann, wish)
    assert made.uri == uri.format(made.token)
    assert made.url == f"https://a.example/invite/{made.token}"
    assert made.token.isalnum()
    assert len(made.token) == 22
    assert made.expires == by_invitation.clock.now() + 7 * 86400
    offer = await by_invitation.invites.find(made.token)
    assert offer is not None
    assert offer.uri == made.uri


async def test_where_accounts_are_made_by_the_operator_only_contacts_are_invited(tmp_path: Path) -> None:
    async with world(tmp_path / "data" / "parley.db", registration="closed") as server:
        ann = await person(server, "ann", Role.ADMIN)
        made = await server.invites.create(ann, Wish())
        assert made.kind is CONTACT
        assert made.uri == f"xmpp:ann@a.example?roster;preauth={made.token}"
        for kind in (ACCOUNT, BOTH):
            with pytest.raises(NotAllowed):
                await server.invites.create(ann, Wish(kind))


@pytest.mark.parametrize(
    "role, wish, refusal",
    [
        (Role.GUEST, Wish(CONTACT), Forbidden),
        (Role.MEMBER, Wish(ACCOUNT, username="boss"), Forbidden),
        (Role.MEMBER, Wish(ACCOUNT, role=Role.ADMIN), Forbidden),
        (Role.MEMBER, Wish(ACCOUNT, role=Role.OPERATOR), Forbidden),
        (Role.OPERATOR, Wish(ACCOUNT, role=Role.OPERATOR), Forbidden),
        (Role.MEMBER, Wish(ACCOUNT, domain="b.example"), Forbidden),
        (Role.ADMIN, Wish(BOTH, domain="b.example"), Forbidden),
        (Role.ADMIN, Wish(ACCOUNT, domain="c.example"), NotFound),
        (Role.ADMIN, Wish(PASSWORD), NotAcceptable),
        (Role.MEMBER, Wish(uses=0), NotAcceptable),
        (Role.MEMBER, Wish(uses=101), NotAcceptable),
        (Role.MEMBER, Wish(lifetime=31 * 86400.0), NotAcceptable),
        (Role.ADMIN, Wish(ACCOUNT, username="bob", uses=2), NotAcceptable),
        (Role.ADMIN, Wish(ACCOUNT, username="a b"), NotAcceptable),
        (Role.ADMIN, Wish(ACCOUNT, username="ann"), Conflict),
        (None, Wish(BOTH), NotAcceptable),
    ],
)
async def test_who_may_not_invite_to_what(
    by_invitation: World, role: Role | None, wish: Wish, refusal: type[DomainError]
) -> None:
    await person(by_invitation, "ann", Role.MEMBER)
    asker = None if role is None else await person(by_invitation, "asker", role)
    with pytest.raises(refusal):
        await by_invitation.invites.create(asker, wish)
    assert await by_invitation.invites.list(asker) == []


async def test_one_account_keeps_a_bounded_number_open(by_invitation: World) -> None:
    ann = await person(by_invitation, "ann", Role.MEMBER)
    made = [await by_invitation.invites.create(ann, Wish()) for _ in range(20)]
    with pytest.raises(NotAcceptable):
        await by_invitation.invites.create(ann, Wish())
    await by_invitation.invites.revoke(ann, made[0].id)
    await by_invitation.invites.create(ann, Wish())
    assert await by_invitation.invites.find(made[0].token) is None


async def test_s75_tokens_that_are_no_good_look_alike(by_invitation: World) -> None:
    """Guessed, used, expired, revoked, of another domain, of another inviter: None and Forbidden."""
    server = by_invitation
    ann = await person(server, "ann", Role.ADMIN)
    used = await server.invites.create(ann, Wish(ACCOUNT))
    await server.registrations.register("friend", "a.example", "password", used.token)
    revoked = await server.invites.create(ann, Wish(ACCOUNT))
    await server.invites.revoke(ann, revoked.id)
    elsewhere = await server.invites.create(ann, Wish(ACCOUNT, domain="b.example"))
    contact = await server.invites.create(ann, Wish(CONTACT))
    expired = await server.invites.create(ann, Wish(ACCOUNT, lifetime=60))
    server.clock.advance(61)
    tokens = (used.token, revoked.token, elsewhere.token, contact.token, expired.token, "guess", "", "x" * 4000, "\0")
    for token in tokens:
        assert await server.registrations.offer(token, "a.example") is None, token
        with pytest.raises(Forbidden) as refused:
            await server.registrations.register("mallory", "a.example", "password", token)
        assert refused.value.text == "the invitation is not valid"
    bob = await person(server, "bob", Role.MEMBER)
    assert not await server.invites.redeem(bob, contact.token)
    assert await server.invites.redeem(ann, contact.token)
    assert not await server.invites.redeem(ann, contact.token)


async def test_s75_a_token_is_not_stored(by_invitation: World) -> None:
    ann = await person(by_invitation, "ann", Role.MEMBER)
    made = await by_invitation.invites.create(ann, Wish())
    rows = await by_invitation.database.read(
        lambda connection: connection.exec_driver_sql("SELECT * FROM invite").fetchall()
    )
    assert len(rows) == 1
    assert made.token not in repr(rows)


async def test_a_refused_registration_uses_nothing_up(by_invitation: World) -> None:
    ann = await person(by_invitation, "ann", Role.MEMBER)
    made = await by_invitation.invites.create(ann, Wish(ACCOUNT))
    register = by_invitation.registrations.register
    with pytest.raises(Conflict):
        await register("ann", "a.example", "password", made.token)
    with pytest.raises(NotAcceptable):
        await register("friend", "a.example", "short", made.token)
    assert (await register("friend", "a.example", "password", made.token)).role is Role.MEMBER


async def test_the_invitation_gives_the_role(by_invitation: World) -> None:
    ann = await person(by_invitation, "ann", Role.MEMBER)
    made = await by_invitation.invites.create(ann, Wish(ACCOUNT, role=Role.GUEST))
    friend = await by_invitation.registrations.register("friend", "a.example", "password", made.token)
    assert friend.role is Role.GUEST
    assert by_invitation.roles.guests == {"friend@a.example"}


async def test_what_was_shown_in_time_is_good_until_it_is_forgotten(by_invitation: World) -> None:
    """XEP-0445 s4: expiry is judged when the token is shown."""
    ann = await person(by_invitation, "ann", Role.MEMBER)
    made = await by_invitation.invites.create(ann, Wish(lifetime=60, uses=2))
    shown = await by_invitation.registrations.offer(made.token, "a.example")
    by_invitation.clock.advance(61)
    await by_invitation.invites.purge()
    await by_invitation.registrations.register("friend", "a.example", "password", shown=shown)
    by_invitation.clock.advance(GRACE)
    await by_invitation.invites.purge()
    with pytest.raises(Forbidden):
        await by_invitation.registrations.register("other", "a.example", "password", shown=shown)


async def test_a_new_account_and_its_inviter_are_contacts(by_invitation: World) -> None:
    """XEP-0401 s5.5: the inviter hears of it by a roster push."""
    ann = await by_invitation.online("ann")
    made = await by_invitation.invites.create(await by_invitation.account("ann"), Wish())
    await by_invitation.registrations.register("friend", "a.example", "password", made.token)
    await by_invitation.settle()
    assert ann.told() == ["push friend@a.example both"]
    friend = await by_invitation.online("friend")
    assert ann.told() == ["available friend@a.example/phone -> ann@a.example"]
    assert [found.jid.bare for found in await by_invitation.contacts.list(friend.account)] == ["ann@a.example"]


async def test_links_that_set_a_password(by_invitation: World) -> None:
    admin = await person(by_invitation, "admin", Role.ADMIN)
    operator = await person(by_invitation, "operator", Role.OPERATOR)
    member = await person(by_invitation, "member", Role.MEMBER)
    for asker, whose, refusal in (
        (member, "operator@a.example", Forbidden),
        (operator, "admin@a.example", Forbidden),
        (admin, "admin@a.example", NotAllowed),
        (admin, "nobody@a.example", NotFound),
        (None, "nobody@a.example", NotFound),
    ):
        with pytest.raises(refusal):
            await by_invitation.invites.create_reset(asker, whose)
    made = await by_invitation.invites.create_reset(operator, "member@a.example")
    assert made.uri == ""
    assert await by_invitation.registrations.offer(made.token, "a.example") is None
    with pytest.raises(NotAcceptable):
        await by_invitation.accounts.reset_password(made.token, "short")
    await by_invitation.accounts.reset_password(made.token, "correct horse")
    assert (await by_invitation.accounts.check_password("member@a.example", "correct horse")).id == member.id
    with pytest.raises(Forbidden):
        await by_invitation.accounts.reset_password(made.token, "another horse")
