"""Commands about accounts (XEP-0133), and who may run which."""

import pytest

from homeserver.domain.accounts import AccountState, Role
from homeserver.protocol import namespaces as ns
from tests.kit.commands import ADMIN, OURS, filled, run, said, shown, step
from tests.kit.fakes import FakeSession
from tests.kit.world import World

FOR_ADMINS = {
    f"{ADMIN}delete-user",
    f"{ADMIN}get-user-roster",
    f"{ADMIN}edit-admin",
    f"{ADMIN}set-motd",
    f"{ADMIN}edit-motd",
    f"{ADMIN}delete-motd",
    f"{ADMIN}set-welcome",
    f"{ADMIN}delete-welcome",
    f"{ADMIN}shutdown",
    f"{OURS}announce-all",
    f"{OURS}cancel-shutdown",
}
FOR_STAFF = {
    *(f"{ADMIN}{name}" for name in ("add-user", "disable-user", "reenable-user", "end-user-session", "announce")),
    *(f"{ADMIN}{name}" for name in ("change-user-password", "get-user-lastlogin", "user-stats")),
    *(f"{ADMIN}get-{kind}-users-num" for kind in ("registered", "disabled", "online", "active", "idle")),
    *(f"{ADMIN}get-{kind}-users-list" for kind in ("registered", "disabled", "online")),
    f"{ADMIN}get-active-users",
    f"{ADMIN}get-idle-users",
    f"{OURS}reset-password",
    f"{OURS}reports",
    f"{OURS}resolve-report",
    ns.CREATE_ACCOUNT_COMMAND,
}


async def staff(server: World, name: str = "boss", role: Role = Role.ADMIN) -> FakeSession:
    await server.account(name)
    await server.accounts.set_role(f"{name}@a.example", role)
    return await server.session(name)


async def offered(server: World, session: FakeSession) -> set[str]:
    query = f"<query xmlns='{ns.DISCO_ITEMS}' node='{ns.COMMANDS}'/>"
    answer = await server.iq(session, f"<iq type='get' id='d' to='a.example'>{query}</iq>")
    return {item.get("node", "") for item in answer[0]}


async def test_what_is_offered_is_what_one_may_run(server: World) -> None:
    boss, operator = await staff(server), await staff(server, "op", Role.OPERATOR)
    member, guest = await server.session("ann"), await staff(server, "gus", Role.GUEST)
    everybody = await offered(server, guest)
    assert everybody == {"ping"}
    assert await offered(server, member) == {*everybody, ns.INVITE_COMMAND}
    assert await offered(server, operator) == {*everybody, ns.INVITE_COMMAND} | FOR_STAFF
    assert await offered(server, boss) == {*everybody, ns.INVITE_COMMAND} | FOR_STAFF | FOR_ADMINS


@pytest.mark.parametrize("node", sorted(FOR_STAFF | FOR_ADMINS))
async def test_s73_members_and_guests_run_no_command_of_staff(server: World, node: str) -> None:
    guest = await staff(server, "gus", Role.GUEST)
    for session in (await server.session("ann"), guest):
        assert said(await step(server, session, node)) == "forbidden"
        assert said(await step(server, session, node, filled({"accountjids": "op@a.example"}))) == "forbidden"


@pytest.mark.parametrize("name", ["restart", "get-user-password", "edit-blacklist", "edit-whitelist"])
async def test_what_is_not_offered(server: World, name: str) -> None:
    assert said(await step(server, await staff(server), ADMIN + name)) == "feature-not-implemented"


@pytest.mark.parametrize("node", sorted(FOR_ADMINS))
async def test_operators_run_no_command_of_admins(server: World, node: str) -> None:
    assert said(await step(server, await staff(server, "op", Role.OPERATOR), node)) == "forbidden"


async def test_adding_an_account(server: World) -> None:
    boss = await staff(server)
    wish = {"accountjid": "Ann@a.example", "password": "a long secret"}
    made = await run(server, boss, f"{ADMIN}add-user", **wish, **{"password-verify": "a long secret"})
    assert said(made) == "ann@a.example was made"
    assert (await server.accounts.check_password("ann@a.example", "a long secret")).role is Role.MEMBER
    assert said(await run(server, boss, f"{ADMIN}add-user", **wish)) == "conflict"
    differs = await run(server, boss, f"{ADMIN}add-user", **wish, **{"password-verify": "another"})
    assert said(differs) == "bad-request"
    for jid, refusal in (("x@b.example", "item-not-found"), ("a.example", "item-not-found"), ("@", "jid-malformed")):
        assert said(await run(server, boss, f"{ADMIN}add-user", accountjid=jid, password="secret secret")) == refusal
    assert said(await run(server, boss, f"{ADMIN}add-user", accountjid="n@a.example", password="x")) == "not-acceptable"


async def test_disabling_enabling_and_deleting(server: World) -> None:
    boss = await staff(server)
    await server.account("ann")
    await server.account("ben")
    both = ["ann@a.example", "ben@a.example/phone"]
    assert said(await run(server, boss, f"{ADMIN}disable-user", accountjids=both)) == "Disabled"
    assert (await server.account("ben")).state is AccountState.DISABLED
    assert shown(await run(server, boss, f"{ADMIN}get-disabled-users-num")) == {"disabledusersnum": ["2"]}
    assert said(await run(server, boss, f"{ADMIN}reenable-user", accountjids=both)) == "Enabled"
    assert (await server.account("ann")).state is AccountState.ACTIVE
    assert said(await run(server, boss, f"{ADMIN}delete-user", accountjids=both)) == "Deleted"
    assert (await server.account("ann")).state is AccountState.DELETED
    assert said(await run(server, boss, f"{ADMIN}delete-user", accountjids=both)) == "item-not-found"


async def test_all_accounts_of_a_request_or_none(server: World) -> None:
    boss = await staff(server)
    await server.account("ann")
    for other, refusal in (("nobody@a.example", "item-not-found"), ("boss@a.example", "not-allowed")):
        wish = ["ann@a.example", other]
        assert said(await run(server, boss, f"{ADMIN}disable-user", accountjids=wish)) == refusal
        assert (await server.account("ann")).state is AccountState.ACTIVE
    many = [f"u{number}@a.example" for number in range(201)]
    assert said(await run(server, boss, f"{ADMIN}disable-user", accountjids=many)) == "not-acceptable"
    assert said(await run(server, boss, f"{ADMIN}disable-user", accountjids=[])) == "bad-request"


async def test_operators_do_not_reach_staff(server: World) -> None:
    await staff(server)
    operator = await staff(server, "op", Role.OPERATOR)
    for name in ("disable-user", "reenable-user", "end-user-session", "get-user-lastlogin"):
        assert said(await run(server, operator, ADMIN + name, accountjids="boss@a.example")) == "forbidden"
    wish = {"accountjid": "boss@a.example", "password": "a long secret"}
    for node in (f"{ADMIN}change-user-password", f"{ADMIN}user-stats", f"{OURS}reset-password"):
        assert said(await run(server, operator, node, **wish)) == "forbidden"


async def test_ending_sessions(server: World) -> None:
    boss = await staff(server)
    phone, laptop = await server.session("ann", "phone"), await server.session("ann", "laptop")
    node = f"{ADMIN}end-user-session"
    assert said(await run(server, boss, node, accountjids="ann@a.example/desk")) == "item-not-found"
    assert said(await run(server, boss, node, accountjids="ann@a.example/phone")) == "Sessions ended: 1"
    assert (phone.ended, laptop.ended) == ("policy-violation", None)
    assert said(await run(server, boss, node, accountjids="ann@a.example")) == "Sessions ended: 2"
    assert laptop.ended == "policy-violation"


async def test_passwords(server: World) -> None:
    boss = await staff(server)
    await server.account("ann")
    wish = {"accountjid": "ann@a.example", "password": "another secret"}
    assert said(await run(server, boss, f"{ADMIN}change-user-password", **wish)) == "The password was changed"
    assert (await server.accounts.check_password("ann@a.example", "another secret")).jid.bare == "ann@a.example"
    link = shown(await run(server, boss, f"{OURS}reset-password", accountjid="ann@a.example"))
    assert link["landing-url"][0].startswith("https://a.example/")
    assert link["expire"][0].endswith("Z")


async def test_roster_last_login_and_numbers(server: World) -> None:
    boss = await staff(server)
    await server.befriend("ann", "ben")
    answer = await run(server, boss, f"{ADMIN}get-user-roster", accountjids="ann@a.example")
    [item] = answer.iter(f"{{{ns.ROSTER}}}item")
    assert (item.get("jid"), item.get("subscription")) == ("ben@a.example", "both")
    times = await run(server, boss, f"{ADMIN}get-user-lastlogin", accountjids=["ann@a.example", "ben@a.example"])
    assert shown(times)["lastlogin"] == ["", ""]
    await server.session("ann", "desk")
    times = await run(server, boss, f"{ADMIN}get-user-lastlogin", accountjids="ann@a.example")
    [at] = shown(times)["lastlogin"]
    assert at.endswith("Z")
    stats = shown(await run(server, boss, f"{ADMIN}user-stats", accountjid="ann@a.example"))
    assert stats == {"rostersize": ["1"], "onlineresources": ["desk"]}


async def test_editing_the_list_of_admins(server: World) -> None:
    boss = await staff(server)
    await server.account("ann")
    await server.account("other@b.example")
    await server.accounts.set_role("other@b.example", Role.ADMIN)
    first = await step(server, boss, f"{ADMIN}edit-admin")
    assert shown(first) == {"adminjids": ["boss@a.example"]}
    wish = ["boss@a.example", "ann@a.example"]
    assert said(await run(server, boss, f"{ADMIN}edit-admin", adminjids=wish)) == "Changed"
    assert (await server.account("ann")).role is Role.ADMIN
    assert said(await run(server, boss, f"{ADMIN}edit-admin", adminjids="ann@a.example")) == "not-allowed"
    assert said(await run(server, boss, f"{ADMIN}edit-admin", adminjids="boss@a.example")) == "Changed"
    assert (await server.account("ann")).role is Role.MEMBER
    assert (await server.account("other@b.example")).role is Role.ADMIN


async def test_a_form_of_somebody_else_is_of_no_use(server: World) -> None:
    boss, other = await staff(server), await staff(server, "second")
    await server.account("ann")
    node = f"{ADMIN}delete-user"
    sessionid = (await step(server, boss, node))[0].get("sessionid", "")
    form = filled({"accountjids": "ann@a.example"})
    assert said(await step(server, other, node, form, sessionid)) == "not-allowed"
    assert said(await step(server, boss, f"{ADMIN}disable-user", form, sessionid)) == "not-allowed"
    assert said(await step(server, boss, node, form, sessionid)) == "Deleted"
    assert said(await step(server, boss, node, form, sessionid)) == "not-allowed"


async def test_who_lost_the_role_cannot_go_on(server: World) -> None:
    boss = await staff(server)
    await server.account("ann")
    sessionid = (await step(server, boss, f"{ADMIN}delete-user"))[0].get("sessionid", "")
    await server.accounts.set_role("boss@a.example", Role.MEMBER)
    answer = await step(server, boss, f"{ADMIN}delete-user", filled({"accountjids": "ann@a.example"}), sessionid)
    assert said(answer) == "forbidden"
