"""Commands that count and list users (XEP-0133 s4.13 to s4.22)."""

import pytest

from homeserver.domain.accounts import Role
from homeserver.xmpp import administration_forms
from tests.kit.commands import ADMIN, run, said, shown
from tests.kit.world import World


async def test_numbers_and_lists_are_of_the_domain_that_is_asked(server: World) -> None:
    boss = await server.online("boss")
    await server.accounts.set_role("boss@a.example", Role.OPERATOR)
    await server.online("away", presence="<presence><show>xa</show></presence>")
    await server.online("away", "desk", "<presence><show>away</show></presence>")
    await server.session("silent")
    gone = await server.online("gone")
    gone.connected = False
    await server.online("other@b.example")
    for name in ("off", "lost"):
        await server.account(name)
    await server.accounts.disable("off@a.example")
    await server.accounts.delete("lost@a.example")

    async def number(kind: str, to: str = "a.example") -> list[str]:
        return shown(await run(server, boss, f"{ADMIN}get-{kind}-users-num", to))[f"{kind}usersnum"]

    async def names(node: str, var: str) -> list[str]:
        return [one.partition("@")[0] for one in shown(await run(server, boss, ADMIN + node, max_items="25"))[var]]

    assert await number("registered") == ["5"]
    assert await number("registered", "b.example") == ["1"]
    assert await number("disabled") == ["1"]
    assert await number("online") == ["4"]
    assert await number("active") == ["1"]
    assert await number("idle") == ["3"]
    assert await names("get-registered-users-list", "registereduserjids") == ["away", "boss", "gone", "off", "silent"]
    assert await names("get-disabled-users-list", "disableduserjids") == ["off"]
    assert await names("get-online-users-list", "onlineuserjids") == ["away", "boss", "gone", "silent"]
    assert await names("get-active-users", "activeuserjids") == ["boss"]
    assert await names("get-idle-users", "idleuserjids") == ["away", "gone", "silent"]


async def test_long_lists_are_cut(server: World, monkeypatch: pytest.MonkeyPatch) -> None:
    boss = await server.online("boss")
    await server.accounts.set_role("boss@a.example", Role.ADMIN)
    for number in range(4):
        await server.account(f"u{number}")
    node = f"{ADMIN}get-registered-users-list"
    cut = await run(server, boss, node, max_items="2")
    assert (shown(cut)["registereduserjids"], said(cut)) == (
        ["boss@a.example", "u0@a.example"],
        "There are more than 2",
    )
    assert len(shown(await run(server, boss, node, max_items="none"))["registereduserjids"]) == 5
    monkeypatch.setattr(administration_forms, "MOST_LISTED", 3)
    assert said(await run(server, boss, node, max_items="none")) == "There are more than 3"
    assert said(await run(server, boss, node, max_items="many")) == "bad-request"
