"""Commands with which staff speaks to everybody (XEP-0133 s4.23 to s4.31)."""

import asyncio

from homeserver.domain.accounts import Role
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import parse_stanza, text_of
from tests.kit.commands import ADMIN, OURS, run, said, shown, step
from tests.kit.fakes import FakeSession
from tests.kit.world import World


async def boss(server: World) -> FakeSession:
    await server.account("boss")
    await server.accounts.set_role("boss@a.example", Role.ADMIN)
    return await server.session("boss", "desk")


def texts(session: FakeSession) -> list[tuple[str, str, str]]:
    """Sender, type and text of the messages it was given."""
    made = [parse_stanza(stored.message.payload) for stored, _, _ in session.delivered]
    session.delivered.clear()
    return [(one.get("from", ""), one.get("type", ""), text_of(one, ns.CLIENT, "body") or "") for one in made]


async def test_an_announcement_to_those_who_are_online(server: World) -> None:
    staff = await boss(server)
    ann, elsewhere = await server.online("ann"), await server.online("ben@b.example")
    await server.account("away")
    answer = await run(server, staff, f"{ADMIN}announce", announcement=["Down at noon.", "Sorry."])
    assert said(answer) == "Shown to 1 users"
    await server.settle()
    assert texts(ann) == [("a.example", "headline", "Down at noon.\nSorry.")]
    assert texts(elsewhere) == []
    assert await server.archive("ann") == await server.waiting("away") == []
    assert said(await run(server, staff, f"{ADMIN}announce", announcement=[" "])) == "bad-request"
    assert said(await run(server, staff, f"{ADMIN}announce", announcement="x" * 10_001)) == "not-acceptable"


async def test_an_announcement_to_all_waits_for_who_is_away(server: World) -> None:
    staff = await boss(server)
    ann = await server.online("ann")
    await server.account("away")
    await server.account("ben@b.example")
    assert "is being sent" in said(await run(server, staff, f"{OURS}announce-all", announcement="New rules"))
    await server.announcements.settle()
    await server.settle()
    assert texts(ann) == [("a.example", "normal", "New rules")]
    assert await server.waiting("away") == ["New rules"]
    assert await server.waiting("ben@b.example") == []
    await run(server, staff, f"{OURS}announce-all", announcement="To staff", role="admin")
    await server.announcements.settle()
    assert await server.archive("boss") == ["New rules", "To staff"]
    assert await server.archive("ann") == ["New rules"]
    assert said(await run(server, staff, f"{OURS}announce-all", announcement="x", role="king")) == "bad-request"


async def test_the_message_of_the_day_is_shown_once(server: World) -> None:
    staff, ann = await boss(server), await server.online("ann")
    assert said(await step(server, staff, f"{ADMIN}edit-motd")) == "item-not-found"
    assert said(await step(server, staff, f"{ADMIN}delete-motd")) == "item-not-found"
    assert said(await run(server, staff, f"{ADMIN}set-motd", motd="Tea at four")) == "Set"
    await notified(server)
    assert texts(ann) == [("a.example", "normal", "Tea at four")]
    ben = await server.online("ben")
    await notified(server)
    assert texts(ben) == [("a.example", "normal", "Tea at four")]
    assert shown(await step(server, staff, f"{ADMIN}edit-motd")) == {"motd": ["Tea at four"]}
    assert said(await run(server, staff, f"{ADMIN}edit-motd", motd="Tea at five")) == "Changed"
    await server.online("ben", "desk")
    elsewhere, late = await server.online("x@b.example"), await server.online("late")
    await notified(server)
    assert await server.archive("ben") == ["Tea at four"]
    assert (texts(elsewhere), texts(late)) == ([], [("a.example", "normal", "Tea at five")])
    await run(server, staff, f"{ADMIN}set-motd", motd="Cake")
    await notified(server)
    assert await server.archive("ann") == ["Tea at four", "Cake"]
    assert said(await step(server, staff, f"{ADMIN}delete-motd")) == "Deleted"
    new = await server.online("new")
    await notified(server)
    assert texts(new) == []


async def test_new_accounts_are_welcomed(server: World) -> None:
    staff, old = await boss(server), await server.account("old")
    server.clock.advance(10)
    assert said(await run(server, staff, f"{ADMIN}set-welcome", welcome=["Hello", "you"])) == "Set"
    assert shown(await step(server, staff, f"{ADMIN}set-welcome")) == {"welcome": ["Hello", "you"]}
    server.clock.advance(10)
    seen = await server.online(old.jid.local)
    new = await server.online("new")
    await notified(server)
    assert (texts(seen), texts(new)) == ([], [("a.example", "normal", "Hello\nyou")])
    await run(server, staff, f"{ADMIN}set-welcome", welcome="Hi")
    again = await server.online("new", "desk")
    await notified(server)
    assert texts(again) == []
    assert said(await step(server, staff, f"{ADMIN}delete-welcome")) == "Deleted"


async def test_shutdown(server: World) -> None:
    staff, ann = await boss(server), await server.online("ann")
    stopped = asyncio.Event()
    server.shutdown.stop = stopped.set
    node = f"{ADMIN}shutdown"
    assert said(await step(server, staff, f"{OURS}cancel-shutdown")) == "item-not-found"
    assert said(await run(server, staff, node, delay="soon")) == "bad-request"
    assert said(await run(server, staff, node, delay="99999999")) == "not-acceptable"
    assert said(await run(server, staff, node, delay="30", announcement="Bye")) == "The server stops in 30 seconds"
    assert said(await run(server, staff, node, delay="30")) == "conflict"
    await server.settle()
    assert texts(ann) == [("a.example", "headline", "Bye")]
    assert said(await step(server, staff, f"{OURS}cancel-shutdown")) == "The server goes on"
    assert not stopped.is_set()
    assert said(await run(server, staff, node, delay="0")) == "The server stops in 0 seconds"
    await asyncio.wait_for(stopped.wait(), 5)


async def notified(server: World) -> None:
    await server.notices.settle()
    await server.settle()
