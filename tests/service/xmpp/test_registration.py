"""Accounts over XMPP (XEP-0077)."""

from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from homeserver.domain.accounts import AccountState
from homeserver.domain.errors import NotAuthorized
from homeserver.xmpp.registration import Registration
from tests.kit.fakes import wire
from tests.kit.world import World, world

REGISTER = "{jabber:iq:register}"


def feature(server: World) -> Registration:
    return next(built for built in server.features if isinstance(built, Registration))


def query(content: str, kind: str = "set") -> Element:
    return wire(f"<iq type='{kind}' id='r1'><query xmlns='jabber:iq:register'>{content}</query></iq>".encode())


def condition(answer: Element) -> str:
    error = answer.find("{jabber:client}error")
    assert error is not None
    return error[0].tag.rpartition("}")[2]


def names(answer: Element) -> list[str]:
    return [part.tag.removeprefix(REGISTER) for part in answer[0]]


async def test_registering_before_login(server: World) -> None:
    attempt = feature(server).attempt("b.example", "192.0.2.1")
    form = await attempt.answer(query("", "get"))
    assert names(form) == ["instructions", "username", "password"]
    assert (form.get("type"), form.get("id"), form.get("from")) == ("result", "r1", "b.example")
    made = await attempt.answer(query("<username>Bill</username><password>Calliope99</password>"))
    assert (made.get("type"), len(made)) == ("result", 0)
    assert (await server.accounts.check_password("bill@b.example", "Calliope99")).jid.bare == "bill@b.example"
    again = await attempt.answer(query("<username>bob</username><password>Calliope99</password>"))
    assert condition(again) == "not-acceptable"


async def test_a_submitted_form_counts_as_well(server: World) -> None:
    attempt = feature(server).attempt("a.example", "192.0.2.1")
    form = (
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>jabber:iq:register</value></field>"
        "<field var='username'><value>bill</value></field><field var='password'><value>Calliope99</value></field></x>"
    )
    assert (await attempt.answer(query(form))).get("type") == "result"
    assert await server.accounts.check_password("bill@a.example", "Calliope99")


@pytest.mark.parametrize(
    "content, expected",
    [
        ("<username>bill</username>", "not-acceptable"),
        ("<username>bill</username><password/>", "not-acceptable"),
        ("<password>Calliope99</password>", "not-acceptable"),
        ("<username>bill</username><password>short</password>", "not-acceptable"),
        ("<username>a b@c</username><password>Calliope99</password>", "not-acceptable"),
        ("<username>taken</username><password>Calliope99</password>", "conflict"),
        ("<remove/>", "bad-request"),
    ],
)
async def test_what_is_no_registration(server: World, content: str, expected: str) -> None:
    await server.account("taken")
    answer = await feature(server).attempt("a.example", "192.0.2.1").answer(query(content))
    assert condition(answer) == expected
    assert answer.find(f"{REGISTER}query") is None


async def test_registrations_of_one_address_are_bounded(server: World) -> None:
    conditions = []
    for number in range(7):
        attempt = feature(server).attempt("a.example", "192.0.2.1")
        answer = await attempt.answer(query(f"<username>u{number}</username><password>Calliope99</password>"))
        conditions.append(condition(answer) if answer.get("type") == "error" else "made")
    assert conditions == ["made"] * 5 + ["resource-constraint"] * 2


async def test_a_closed_server_offers_nothing(tmp_path: Path) -> None:
    async with world(tmp_path / "data" / "parley.db", registration="closed") as server:
        assert not feature(server).is_offered
        attempt = feature(server).attempt("a.example", "192.0.2.1")
        for stanza in (query("", "get"), query("<username>bill</username><password>Calliope99</password>")):
            assert condition(await attempt.answer(stanza)) == "service-unavailable"
        assert await server.accounts.find("bill@a.example") is None


async def registered(server: World):  # type: ignore[no-untyped-def]
    await server.accounts.register("bill", "a.example", "Calliope99")
    return await server.session("bill")


async def change(server: World, session, content: str, to: str = "") -> Element:  # type: ignore[no-untyped-def]
    target = f" to='{to}'" if to else ""
    return await server.iq(
        session, f"<iq type='set' id='c'{target}><query xmlns='jabber:iq:register'>{content}</query></iq>"
    )


async def test_changing_the_password(server: World) -> None:
    bill = await registered(server)
    form = await server.iq(bill, "<iq type='get' id='g' to='a.example'><query xmlns='jabber:iq:register'/></iq>")
    assert names(form) == ["registered", "instructions", "username", "password"]
    content = "<username>bill</username><password>new Calliope</password>"
    assert (await change(server, bill, content, "a.example")).get("type") == "result"
    assert await server.accounts.check_password("bill@a.example", "new Calliope")
    with pytest.raises(NotAuthorized):
        await server.accounts.check_password("bill@a.example", "Calliope99")


@pytest.mark.parametrize(
    "content, to, expected",
    [
        ("<username>bill</username><password/>", "a.example", "bad-request"),
        ("<password>new Calliope</password>", "a.example", "bad-request"),
        ("<username>bill</username><password>x</password>", "a.example", "not-acceptable"),
        ("<username>alice</username><password>new Calliope</password>", "a.example", "not-allowed"),
        ("<username>bill@b.example</username><password>new Calliope</password>", "a.example", "not-allowed"),
        ("<username>bill</username><password>new Calliope</password>", "b.example", "not-allowed"),
        ("<remove/><username>bill</username>", "", "bad-request"),
    ],
)
async def test_changes_that_are_refused(server: World, content: str, to: str, expected: str) -> None:
    """S-73/74 and S-91: nobody else's password, no account of another domain."""
    await server.account("alice")
    bill = await registered(server)
    assert condition(await change(server, bill, content, to)) == expected
    assert await server.accounts.check_password("bill@a.example", "Calliope99")


async def test_removing_the_account(server: World) -> None:
    await registered(server)
    await server.befriend("bill", "bob")
    bill, bob = await server.online("bill", "laptop"), await server.online("bob")
    bill.take()
    assert (await change(server, bill, "<remove/>")).get("type") == "result"
    found = await server.accounts.find("bill@a.example")
    assert found is not None
    assert found.state is AccountState.DELETED
    assert [line for line in bob.told() if line.startswith("unsub")] == [
        "unsubscribe bill@a.example -> bob@a.example",
        "unsubscribed bill@a.example -> bob@a.example",
    ]


async def test_another_server_may_change_nothing(server: World) -> None:
    await server.remote(
        "mallory@far.example/x",
        "<iq type='set' id='c' to='a.example'><query xmlns='jabber:iq:register'><remove/></query></iq>",
    )
    [(_, answer)] = server.outbox.passing
    assert condition(answer) == "not-allowed"
