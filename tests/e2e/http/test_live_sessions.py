"""Live sessions over JSON."""

from collections.abc import AsyncIterator

import pytest

from homeserver.domain.accounts import Role
from tests.kit.json_server import JsonServer, json_server

PATH = "/v1/admin/sessions"


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[JsonServer]:
    async with json_server(tmp_path / "data" / "p.db") as found:
        for name, role in (("boss", Role.ADMIN), ("op", Role.OPERATOR), ("ann", Role.MEMBER)):
            await found.accounts.register(name, "a.example", "password", admin=True, role=role)
        yield found


async def test_sessions_are_listed_and_ended(server):
    async with server.socket("ann") as ann, server.socket("boss"):
        status, first = await server.call("GET", f"{PATH}?limit=1", by="op")
        assert status == 200
        [entry] = first["sessions"]
        assert entry["jid"].startswith("ann@a.example/")
        assert (entry["connected"], entry["available"], entry["show"]) == (True, True, None)
        _, second = await server.call("GET", f"{PATH}?limit=5&after={first['next']}", by="op")
        assert [one["jid"].partition("/")[0] for one in second["sessions"]] == ["boss@a.example"]
        assert second["next"] is None
        assert (await server.call("GET", f"{PATH}?domain=b.example", by="op"))[1]["sessions"] == []
        name = entry["jid"].replace("/", "%2F")
        assert (await server.call("DELETE", f"{PATH}/{name}x", by="op"))[0] == 404
        assert (await server.call("DELETE", f"{PATH}/boss@a.example", by="op"))[0] == 403
        assert (await server.call("DELETE", f"{PATH}/{name}", by="op"))[0] == 204
        assert await ann.closed()
    assert (await server.call("GET", PATH, by="ann"))[0] == 403
    assert (await server.call("DELETE", f"{PATH}/op@a.example", by="ann"))[0] == 403
