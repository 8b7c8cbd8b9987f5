"""Who handles a stanza, and what is answered when nobody does."""

from collections.abc import AsyncIterator
from pathlib import Path

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
