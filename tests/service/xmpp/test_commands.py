"""Ad-hoc commands (XEP-0050): who may run what, steps, refusals, bounds."""

from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from homeserver.domain.accounts import Account, AccountState, Role
from homeserver.domain.errors import NotAllowed
from homeserver.protocol import forms
from homeserver.protocol.jid import JID
from homeserver.xmpp import commands
from homeserver.xmpp.commands import ADMINS, Ask, Call, Command, CommandBook, Commands, Done, command
from tests.kit.clocks import FakeClock
from tests.kit.fakes import FakeSession
from tests.kit.world import World

NS = "{http://jabber.org/protocol/commands}"
NODE = "http://jabber.org/protocol/commands"


@dataclass
class Wizard:
    """Three steps, and one command for administrators."""

    @command("wizard", "A wizard")
    async def wizard(self, call: Call) -> Ask | Done:
        if call.form is None:
            return Ask(forms.build("form", fields=[forms.Field("name")]), ("next",))
        if call.action == "prev":
            return Ask(forms.build("form", fields=[forms.Field("name")]), ("next",))
        if "name" not in call.data:
            call.data["name"] = call.value("name")
            return Ask(forms.build("form"), ("prev", "complete"))
        return Done(f"Hello {call.data['name']}")

    @command("secret", "Only for some", roles=ADMINS)
    async def secret(self, _call: Call) -> Done:
        return Done()


def taught(server: World) -> CommandBook:
    [found] = [feature.book for feature in server.features if isinstance(feature, Commands)]
    found.collect([Wizard()])
    assert isinstance(found, CommandBook)
    return found


async def run(
    server: World, session: FakeSession, attributes: str, content: str = "", to: str = "a.example"
) -> Element:
    return await server.iq(
        session, f"<iq type='set' id='c' to='{to}'><command xmlns='{NODE}' {attributes}>{content}</command></iq>"
    )


def refusal(answer: Element) -> tuple[str, str, str]:
    error = answer.find("{jabber:client}error")
    assert error is not None
    extra = [part.tag.removeprefix(NS) for part in error if part.tag.startswith(NS)]
    return error.get("type", ""), error[0].tag.rpartition("}")[2], "".join(extra)


def filled(**fields: str) -> str:
    inner = "".join(f"<field var='{var}'><value>{value}</value></field>" for var, value in fields.items())
    return f"<x xmlns='jabber:x:data' type='submit'>{inner}</x>"


async def test_a_simple_command_completes_at_once(server: World) -> None:
    alice = await server.session("alice")
    answer = await run(server, alice, "node='ping' action='execute'")
    made = answer[0]
    assert (made.get("node"), made.get("status")) == ("ping", "completed")
    assert made.get("sessionid")
    assert [note.text for note in made] == ["Pong from a.example"]


async def test_steps_back_and_forth(server: World) -> None:
    taught(server)
    alice = await server.session("alice")
    first = (await run(server, alice, "node='wizard'"))[0]
    assert first.get("status") == "executing"
    assert first[0].get("execute") == "next"
    session = f"node='wizard' sessionid='{first.get('sessionid')}'"
    second = (await run(server, alice, f"{session} action='next'", filled(name="Ann")))[0]
    assert [part.tag.removeprefix(NS) for part in second[0]] == ["prev", "complete"]
    back = (await run(server, alice, f"{session} action='prev'"))[0]
    assert back.get("status") == "executing"
    again = (await run(server, alice, f"{session} action='next'", filled(name="ignored")))[0]
    done = again if again.get("status") == "completed" else (await run(server, alice, session, filled()))[0]
    assert (done.get("status"), done[0].text) == ("completed", "Hello Ann")
    assert refusal(await run(server, alice, session)) == ("cancel", "not-allowed", "session-expired")


async def test_cancel(server: World) -> None:
    taught(server)
    alice = await server.session("alice")
    first = (await run(server, alice, "node='wizard'"))[0]
    gone = (await run(server, alice, f"node='wizard' sessionid='{first.get('sessionid')}' action='cancel'"))[0]
    assert gone.get("status") == "canceled"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("node='nothing'", ("cancel", "item-not-found", "")),
        ("node='secret'", ("cancel", "forbidden", "")),
        ("node='wizard' action='dance'", ("modify", "bad-request", "malformed-action")),
        ("node='wizard' action='prev'", ("modify", "bad-request", "bad-action")),
        ("node='wizard' action='cancel'", ("modify", "bad-request", "bad-sessionid")),
        ("node='wizard' sessionid='guessed'", ("cancel", "not-allowed", "session-expired")),
    ],
)
async def test_refusals(server: World, attributes: str, expected: tuple[str, str, str]) -> None:
    taught(server)
    assert refusal(await run(server, await server.session("alice"), attributes)) == expected


async def test_a_missing_field_and_a_wrong_action_can_be_corrected(server: World) -> None:
    taught(server)
    alice = await server.session("alice")
    first = (await run(server, alice, "node='wizard'"))[0]
    session = f"node='wizard' sessionid='{first.get('sessionid')}'"
    assert refusal(await run(server, alice, session, filled())) == ("modify", "bad-request", "bad-payload")
    assert refusal(await run(server, alice, f"{session} action='complete'")) == ("modify", "bad-request", "bad-action")
    assert (await run(server, alice, session, filled(name="Ann")))[0].get("status") == "executing"


async def test_another_account_cannot_go_on_with_it(server: World) -> None:
    taught(server)
    alice, eve = await server.session("alice"), await server.session("eve")
    first = (await run(server, alice, "node='wizard'"))[0]
    session = f"node='wizard' sessionid='{first.get('sessionid')}'"
    assert refusal(await run(server, eve, session, filled(name="Eve")))[1:] == ("not-allowed", "session-expired")
    assert (await run(server, alice, session, filled(name="Ann")))[0].get("status") == "executing"


async def test_another_server_runs_nothing(server: World) -> None:
    await server.remote(
        "eve@far.example/x", f"<iq type='set' id='c' to='a.example'><command xmlns='{NODE}' node='ping'/></iq>"
    )
    [(_, answer)] = server.outbox.passing
    assert refusal(answer)[1] == "forbidden"


async def test_discovery_shows_what_one_may_run(server: World) -> None:
    taught(server)
    alice = await server.session("alice")
    ask = "<iq type='get' id='d' to='a.example'><query xmlns='http://jabber.org/protocol/disco#{}' node='{}'/></iq>"
    listed = (await server.iq(alice, ask.format("items", NODE)))[0]
    assert {"ping", "secret", "wizard"} & {item.get("node") for item in listed} == {"ping", "wizard"}
    await server.accounts.set_role("alice@a.example", Role.ADMIN)
    listed = (await server.iq(alice, ask.format("items", NODE)))[0]
    nodes = [item.get("node", "") for item in listed]
    assert nodes == sorted(nodes)
    assert {"ping", "secret", "wizard"} <= set(nodes)
    info = (await server.iq(alice, ask.format("info", "wizard")))[0]
    assert [info[0].get(name) for name in ("category", "type", "name")] == ["automation", "command-node", "A wizard"]


def test_open_commands_are_bounded() -> None:
    clock = FakeClock()
    book = CommandBook(clock)
    known = Command("n", "N", frozenset(Role))
    data: dict[str, Any] = {}
    accounts = [Account(number, JID("a", "b"), AccountState.ACTIVE) for number in range(2)]
    for number in range(commands.MAX_OPEN_OF_ACCOUNT + 5):
        book.keep(f"s{number}", accounts[0], known, Ask(Element("x")), data)
    book.keep("other", accounts[1], known, Ask(Element("x")), data)
    with pytest.raises(NotAllowed):
        book.resume("s0", accounts[0], known)
    assert book.resume("s24", accounts[0], known).data is data
    clock.advance(commands.LIFETIME + 1)
    with pytest.raises(NotAllowed):
        book.resume("other", accounts[1], known)


async def test_contact_addresses_are_in_the_domains_answer(server: World) -> None:
    alice = await server.session("alice")
    info = (
        await server.iq(
            alice, "<iq type='get' id='d' to='a.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
    )[0]
    [form] = [forms.parse(part) for part in info if part.tag == forms.FORM_TAG]
    assert form.fields == {
        "FORM_TYPE": ["http://jabber.org/network/serverinfo"],
        "abuse-addresses": ["mailto:abuse@a.example"],
        "admin-addresses": ["xmpp:admin@a.example"],
    }
