"""Who handles a stanza, and what is answered when nobody does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import error_of
from tests.kit.world import World, world


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "parley.db") as made:
        yield made


async def test_a_deleted_account_answers_like_one_that_never_was(server: World) -> None:
    ann = await server.online("ann")
    await server.account("gone")
    await server.accounts.delete("gone@a.example")
    conditions = []
    for name in ("gone", "never"):
        await server.send(ann, f"<iq type='get' id='1' to='{name}@a.example'><query xmlns='{ns.DISCO_INFO}'/></iq>")
        conditions += [error_of(answer) for answer in ann.take()]
    assert conditions == ["service-unavailable", "service-unavailable"]


async def test_a_server_that_does_not_federate_says_so(server: World) -> None:
    ann = await server.online("ann")
    server.router.federates = False
    await server.send(ann, f"<iq type='get' id='1' to='far.example'><ping xmlns='{ns.PING}'/></iq>")
    assert [error_of(answer) for answer in ann.take()] == ["remote-server-not-found"]
    await server.send(ann, "<presence to='bob@far.example'/>")
    assert ann.take() == []
    assert server.outbox.told() == []


@pytest.mark.parametrize(
    "request_",
    [
        f"<iq type='get' to='a.example'><ping xmlns='{ns.PING}'/></iq>",
        "<iq type='get' id='1' to='a.example'/>",
        f"<iq type='strange' id='1' to='a.example'><ping xmlns='{ns.PING}'/></iq>",
        f"<iq id='1' to='a.example'><ping xmlns='{ns.PING}'/></iq>",
        f"<iq type='get' id='1' to='a.example'><ping xmlns='{ns.PING}'/><ping xmlns='{ns.PING}'/></iq>",
    ],
)
async def test_an_ill_formed_request_is_refused(server: World, request_: str) -> None:
    ann = await server.online("ann")
    await server.send(ann, request_)
    assert [error_of(answer) for answer in ann.take()] == ["bad-request"]


async def test_errors_and_results_are_never_answered(server: World) -> None:
    ann = await server.online("ann")
    for kind in ("error", "result"):
        await server.send(ann, f"<iq type='{kind}' id='1' to='nobody@a.example/x'/>")
        await server.send(ann, f"<iq type='{kind}' id='1' to='a.example'/>")
    assert ann.take() == []


async def test_a_full_store_is_said_to_be_full_and_goes_on_when_there_is_room(server: World) -> None:
    ann = await server.session("ann")

    def room(connection: Any, pages: int) -> None:
        count = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={int(count) + pages}")

    def add(number: int) -> str:
        item = f"<item jid='c{number}@far.example' name='{'n' * 1000}'/>"
        return f"<iq type='set' id='{number}'><query xmlns='{ns.ROSTER}'>{item}</query></iq>"

    await server.database.write(room, 0)
    answers = [await server.iq(ann, add(number)) for number in range(12)]
    refused = [error_of(answer) for answer in answers if answer.get("type") == "error"]
    assert refused
    assert set(refused) == {"resource-constraint"}
    await server.iq(ann, f"<iq type='get' id='r'><query xmlns='{ns.ROSTER}'/></iq>")
    await server.database.write(room, 1000)
    assert (await server.iq(ann, add(99))).get("type") == "result"
