"""The directory (XEP-0055): for accounts of the domain, by the beginning of a name."""

from xml.etree.ElementTree import Element

import pytest

from homeserver.domain.accounts import Role
from tests.kit.fakes import FakeSession
from tests.kit.world import World

NS = "{jabber:iq:search}"


async def ask(
    server: World, session: FakeSession, content: str = "", kind: str = "set", to: str = "a.example"
) -> Element:
    return await server.iq(
        session, f"<iq type='{kind}' id='s' to='{to}'><query xmlns='jabber:iq:search'>{content}</query></iq>"
    )


def found(answer: Element) -> list[str]:
    return [item.get("jid", "") for item in answer.iter(f"{NS}item")]


@pytest.fixture
async def ann(server: World) -> FakeSession:
    for name in ("anna", "annika", "bob", "gus", "gone", "anne@b.example"):
        await server.account(name)
    await server.accounts.set_role("gus@a.example", Role.GUEST)
    await server.accounts.disable("gone@a.example")
    return await server.session("ann")


async def test_fields(server: World, ann: FakeSession) -> None:
    answer = await ask(server, ann, kind="get")
    names = [part.tag.rpartition("}")[2] for part in answer[0]]
    assert names == ["instructions", "nick", "x"]


async def test_by_the_beginning_of_a_name(server: World, ann: FakeSession) -> None:
    assert found(await ask(server, ann, "<nick>ann</nick>")) == ["ann@a.example", "anna@a.example", "annika@a.example"]
    assert found(await ask(server, ann, "<nick>ANNA*</nick>")) == ["anna@a.example"]
    assert found(await ask(server, ann, "<nick>bo</nick><last>ignored</last>")) == ["bob@a.example"]


async def test_a_form_is_answered_by_a_form(server: World, ann: FakeSession) -> None:
    form = (
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>jabber:iq:search</value></field>"
        "<field var='nick'><value>bob</value></field></x>"
    )
    answer = await ask(server, ann, form)
    values = [value.text for value in answer.iter("{jabber:x:data}value")]
    assert values == ["jabber:iq:search", "bob", "bob@a.example"]
    empty = await ask(server, ann, form.replace(">bob<", ">zed<"))
    assert len(empty[0]) == 0


@pytest.mark.parametrize("text", ["", "a", "*", "%%", "__", "gu", "go", "zz"])
async def test_s77_nobody_is_listed_without_a_name(server: World, ann: FakeSession, text: str) -> None:
    """Too short, wildcards, guests, accounts that are disabled: an empty answer."""
    answer = await ask(server, ann, f"<nick>{text}</nick>")
    assert answer.get("type") == "result"
    assert len(answer[0]) == 0


async def test_s77_searching_is_slowed(server: World, ann: FakeSession) -> None:
    kinds = [(await ask(server, ann, "<nick>bob</nick>")).get("type") for _ in range(31)]
    assert kinds == ["result"] * 30 + ["error"]


async def test_s77_strangers_guests_and_other_domains_are_refused(server: World, ann: FakeSession) -> None:
    gus = await server.session("gus")
    await server.accounts.set_role("ann@a.example", Role.MEMBER)
    outsider = await server.session("x@b.example")
    for session in (gus, outsider):
        answer = await ask(server, session, "<nick>bob</nick>")
        assert answer.find("{jabber:client}error/{urn:ietf:params:xml:ns:xmpp-stanzas}forbidden") is not None
    server.outbox.told()
    await server.remote(
        "m@far.example/x",
        "<iq type='set' id='s' to='a.example'><query xmlns='jabber:iq:search'><nick>bob</nick></query></iq>",
    )
    assert server.outbox.told() == ["iq error forbidden a.example -> m@far.example/x"]
