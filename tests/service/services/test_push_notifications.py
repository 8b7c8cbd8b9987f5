"""When an app server is written to, how often, and when no more (XEP-0357 s7)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.feature_settings import PushSettings
from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import COPY, DURABLE, KEEP, Alert, Kind, Message, Stored
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza, StanzaError, error_reply, result
from homeserver.protocol.xml import Element
from homeserver.services.accounts import Ending, Revocation
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.push import AppServers
from homeserver.services.push_notifications import PushNotifications
from tests.kit.fakes import FakeSession
from tests.kit.world import World, world

ANN = JID.parse("ann@a.example/phone")
ALL = KEEP | COPY | DURABLE


class AppServer:
    """Attached to a domain; ``answer`` says how a notification is answered: None not at all, "" with a result, else with
    that condition."""

    def __init__(self, server: World, domain: str) -> None:
        self.jid = JID.parse(domain)
        self.told: list[Element] = []
        self.answer: str | None = ""
        self.moved = asyncio.Event()
        self._router = server.router
        server.router.attach(domain, self)

    def route(self, stanza: Stanza) -> None:
        self.told.append(stanza.element)
        self.moved.set()
        if self.answer is None:
            return
        reply = result(stanza) if not self.answer else error_reply(stanza, StanzaError(self.answer))
        self._router.route(Stanza(reply, self.jid, stanza.sender))

    def submit(self, *_: Any) -> None:
        raise AssertionError("no message is for an app server")

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.told) < count:
                self.moved.clear()
                await self.moved.wait()
        assert len(self.told) == count

    def last(self, name: str) -> str | None:
        """A field of the last summary."""
        for field in self.told[-1].iter(f"{{{ns.DATA_FORM}}}field"):
            if field.get("var") == name:
                return field.findtext(f"{{{ns.DATA_FORM}}}value")
        return None


class Desk:
    """PushNotifications over a real store; Bob is who is told."""

    def __init__(self, server: World, bob: Account) -> None:
        self.server = server
        self.bob = bob
        self.settings = PushSettings(interval=0.0)
        self.app = AppServer(server, "push.example")
        self.registrations = AppServers(server.database, self.settings, server.clock)
        ids = IdSource(server.clock.microseconds, server.database.commit.last_id)
        self.notifications = PushNotifications(
            self.registrations,
            server.sessions,
            Mailboxes(server.database, ids, server.clock),
            server.contacts,
            server.dispatcher._enquiries,
            self.settings,
        )
        self._last = 0

    def reload(self, **changed: Any) -> None:
        self.settings = replace(self.settings, **changed)
        self.registrations.reload(self.settings)
        self.notifications.reload(self.settings)

    def message(self, to: str = "", alert: Alert = Alert.CONTENT, **options: Any) -> Stored:
        """One message of Ann, as it is after its commit."""
        self._last += 1
        bare = JID.parse(to or self.bob.jid.bare)
        payload = f"<message from='{ANN}' to='{bare}'><body>plan {self._last}</body></message>".encode()
        kind, treatment = options.pop("kind", Kind.CHAT), options.pop("treatment", ALL)
        return Stored(self._last, 0, Message(ANN, bare, kind, treatment, None, None, payload, int(alert)))

    def comes(self, to: str = "", alert: Alert = Alert.CONTENT, **options: Any) -> Stored:
        made = self.message(to, alert, **options)
        self.notifications.stored(made, None, self.bob)
        return made

    async def idle(self) -> None:
        """All that was begun is done."""
        while self.notifications._tasks:
            await asyncio.gather(*self.notifications._tasks)

    def session(self, resource: str, priority: int | None = 0, *, connected: bool, copies: bool = False) -> FakeSession:
        made = FakeSession(self.bob, resource)
        made.priority = priority
        made.connected = connected
        made.wants_copies = copies
        self.server.sessions.bind(made)
        return made


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with world(tmp_path / "parley.db") as server:
        made = Desk(server, await server.account("bob"))
        await made.registrations.enable(made.bob, made.app.jid, "n")
        yield made
        await made.notifications.close()
        await made.registrations.settle()


async def test_a_burst_is_one_notification_and_one_more(desk: Desk) -> None:
    desk.reload(interval=0.2)
    for _ in range(30):
        desk.comes()
    await desk.app.until(1)
    for _ in range(30):
        desk.comes()
    await desk.idle()
    assert len(desk.app.told) == 2


async def test_a_call_does_not_wait_for_the_end_of_the_interval(desk: Desk) -> None:
    desk.reload(interval=3600.0)
    desk.comes()
    await desk.app.until(1)
    desk.comes()
    desk.comes(alert=Alert.CALL)
    await desk.app.until(2)


async def test_what_came_within_the_interval_is_not_told_to_who_came_too(desk: Desk) -> None:
    desk.reload(interval=0.1)
    desk.comes()
    await desk.app.until(1)
    desk.comes()
    desk.session("phone", connected=True)
    await desk.idle()
    assert len(desk.app.told) == 1


def connected(desk: Desk) -> None:
    desk.session("phone", connected=True)


def hibernating(desk: Desk) -> None:
    desk.session("phone", connected=False)


def unavailable(desk: Desk) -> None:
    desk.session("phone", None, connected=True)


def negative(desk: Desk) -> None:
    desk.session("phone", -1, connected=True)


def hibernating_beside_another(desk: Desk) -> None:
    desk.session("phone", connected=False)
    desk.session("tablet", connected=True)


def hibernating_beside_one_with_copies(desk: Desk) -> None:
    desk.session("phone", connected=False)
    desk.session("tablet", connected=True, copies=True)


def nobody(_desk: Desk) -> None:
    """No session."""


FULL = "bob@a.example/phone"


@pytest.mark.parametrize(
    ("there", "to", "options", "told"),
    [
        (nobody, "", {}, 1),
        (nobody, "", {"alert": Alert.NONE}, 0),
        (nobody, "", {"treatment": COPY}, 0),
        (nobody, FULL, {}, 1),
        (nobody, FULL, {"kind": Kind.GROUPCHAT, "treatment": DURABLE}, 0),
        (connected, "", {}, 0),
        (connected, FULL, {}, 0),
        (connected, "bob@a.example/gone", {}, 0),
        (connected, "bob@a.example/gone", {"kind": Kind.GROUPCHAT, "treatment": DURABLE}, 0),
        (hibernating, "", {}, 1),
        (hibernating, "", {"treatment": COPY}, 1),
        (hibernating, "", {"alert": Alert.NONE}, 0),
        (hibernating, FULL, {"kind": Kind.GROUPCHAT, "treatment": DURABLE}, 1),
        (unavailable, "", {}, 1),
        (unavailable, FULL, {}, 0),
        (negative, "", {}, 1),
        (hibernating_beside_another, "", {}, 0),
        (hibernating_beside_another, FULL, {}, 1),
        (hibernating_beside_one_with_copies, FULL, {}, 0),
        (hibernating_beside_one_with_copies, FULL, {"treatment": KEEP}, 1),
    ],
)
async def test_who_is_told_of_what(
    desk: Desk, there: Callable[[Desk], None], to: str, options: dict[str, Any], told: int
) -> None:
    there(desk)
    desk.comes(to, **options)
    await desk.idle()
    assert len(desk.app.told) == told


async def test_a_connection_that_is_lost_wakes_once_for_what_it_took_along(desk: Desk) -> None:
    phone = desk.session("phone", connected=True)
    taken = [desk.comes(), desk.comes(alert=Alert.NONE)]
    phone.connected = False
    desk.notifications.stranded(desk.bob, taken)
    await desk.app.until(1)
    await desk.idle()
    desk.notifications.stranded(desk.bob, taken)
    taken.append(desk.comes())
    await desk.idle()
    desk.notifications.stranded(desk.bob, taken)
    await desk.idle()
    assert len(desk.app.told) == 2


async def test_a_lost_connection_wakes_nobody_beside_another_or_for_nothing(desk: Desk) -> None:
    phone = desk.session("phone", connected=True)
    tablet = desk.session("tablet", connected=True)
    taken = [desk.comes()]
    phone.connected = False
    desk.notifications.stranded(desk.bob, taken)
    tablet.connected = False
    desk.notifications.stranded(desk.bob, [desk.message(alert=Alert.NONE)])
    await desk.idle()
    assert desk.app.told == []


async def test_a_device_that_does_not_acknowledge_counts_as_away(desk: Desk) -> None:
    desk.reload(unacknowledged=0.05)
    phone = desk.session("phone", connected=True)
    phone.unacknowledged = [desk.comes().id]
    await desk.app.until(1)
    await desk.idle()
    desk.notifications.stranded(desk.bob, [desk.message(alert=Alert.NONE)])
    await desk.idle()
    assert len(desk.app.told) == 1


async def test_one_device_that_acknowledges_is_enough(desk: Desk) -> None:
    desk.reload(unacknowledged=0.05)
    phone, tablet = desk.session("phone", connected=True), desk.session("tablet", connected=True)
    first = desk.comes()
    phone.unacknowledged = [first.id]
    second = desk.comes()
    # The tablet has the first; the second nobody acknowledges.
    tablet.unacknowledged = [second.id]
    await desk.app.until(1)
    tablet.unacknowledged = []
    desk.comes()
    desk.comes()
    while desk.notifications._given:
        await asyncio.sleep(0.01)
    await desk.idle()
    assert len(desk.app.told) == 1


async def test_one_note_to_oneself_wakes_nobody(desk: Desk) -> None:
    made = desk.message()
    made.message.sender = desk.bob.jid.with_resource("desk")
    desk.notifications.stored(made, desk.bob, desk.bob)
    desk.notifications.stranded(desk.bob, [made])
    await desk.idle()
    assert desk.app.told == []


async def test_what_is_told_is_a_setting(desk: Desk) -> None:
    desk.comes()
    await desk.app.until(1)
    assert desk.app.last("last-message-body") == "New message"
    assert desk.app.last("last-message-sender") is None
    assert desk.app.last("message-count") == "1"
    await desk.idle()
    desk.reload(text="")
    desk.comes()
    await desk.app.until(2)
    assert desk.app.last("last-message-body") is None
    await desk.idle()
    desk.reload(include_body=True, include_sender=True)
    desk.comes()
    await desk.app.until(3)
    assert desk.app.last("last-message-body") == "plan 3"
    assert desk.app.last("last-message-sender") == str(ANN)


@pytest.mark.parametrize("condition", ["item-not-found", "forbidden", "service-unavailable", "not-acceptable"])
async def test_a_final_refusal_ends_the_registration(desk: Desk, condition: str) -> None:
    desk.app.answer = condition
    desk.comes()
    await desk.idle()
    desk.comes()
    await desk.idle()
    assert len(desk.app.told) == 1
    assert await desk.registrations.of(desk.bob) == []
    assert desk.bob.id not in desk.registrations.accounts


@pytest.mark.parametrize("answer", ["resource-constraint", "remote-server-timeout", "internal-server-error", None])
async def test_failures_in_a_row_end_it_and_a_success_begins_anew(desk: Desk, answer: str | None) -> None:
    desk.reload(failures=3, timeout=0.05)

    async def once(said: str | None) -> int:
        desk.app.answer = said
        before = len(desk.app.told)
        desk.comes()
        await desk.idle()
        assert len(desk.app.told) == before + 1  # never sent again by itself
        return len(await desk.registrations.of(desk.bob))

    assert [await once(said) for said in (answer, answer, "", answer, answer)] == [1, 1, 1, 1, 1]
    assert await once(answer) == 0


async def test_an_app_server_that_hangs_holds_up_nobody(desk: Desk) -> None:
    other = AppServer(desk.server, "other.example")
    await desk.registrations.enable(desk.bob, other.jid, "n")
    other.answer = None
    desk.comes()
    await desk.app.until(1)
    await other.until(1)
    cat = await desk.server.account("cat")
    await desk.registrations.enable(cat, desk.app.jid, "c")
    desk.notifications.stored(desk.message("cat@a.example"), None, cat)
    await desk.app.until(2)


async def test_every_node_is_told_once(desk: Desk) -> None:
    await desk.registrations.enable(desk.bob, desk.app.jid, "m", [("secret", ["s"]), ("FORM_TYPE", ["x"])])
    desk.comes()
    await desk.idle()
    path = f"{{{ns.PUBSUB}}}pubsub/{{{ns.PUBSUB}}}publish"
    assert sorted(found.find(path).get("node") for found in desk.app.told) == ["m", "n"]  # type: ignore[union-attr, type-var]


async def test_who_enabled_nothing_or_is_gone_is_not_written_about(desk: Desk) -> None:
    ann = await desk.server.account("ann")
    desk.notifications.stored(desk.message("ann@a.example"), None, ann)
    desk.registrations.revoked(Revocation(desk.bob, Ending.PASSWORD, ()))
    await desk.registrations.settle()
    assert await desk.registrations.of(desk.bob)
    desk.registrations.revoked(Revocation(desk.bob, Ending.DELETED, ()))
    desk.comes()
    await desk.idle()
    await desk.registrations.settle()
    assert desk.app.told == []
    assert await desk.registrations.of(desk.bob) == []


async def test_registrations_are_known_after_a_restart(desk: Desk) -> None:
    again = AppServers(desk.server.database, desk.settings, desk.server.clock)
    await again.start()
    assert again.accounts == {desk.bob.id}
    await again.disable(desk.bob, JID.parse("other.example"))
    assert again.accounts == {desk.bob.id}
    await again.disable(desk.bob, desk.app.jid)
    assert again.accounts == set()
