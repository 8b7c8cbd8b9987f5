"""Accounts over JSON, by admins and operators."""

from collections.abc import AsyncIterator

import pytest

from homeserver.domain.accounts import Role
from tests.kit.json_server import JsonServer, json_server

USERS = "/v1/admin/users"


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[JsonServer]:
    async with json_server(tmp_path / "data" / "p.db") as found:
        for name, role in (("boss", Role.ADMIN), ("op", Role.OPERATOR), ("ann", Role.MEMBER)):
            await found.accounts.register(name, "a.example", "password", admin=True, role=role)
        yield found


async def test_listing_by_pages(server):
    status, first = await server.call("GET", f"{USERS}?limit=2", by="op")
    assert status == 200
    assert [one["jid"] for one in first["users"]] == ["ann@a.example", "boss@a.example"]
    assert first["users"][1] == {"user_id": 1, "jid": "boss@a.example", "role": "admin", "state": "active"}
    _, second = await server.call("GET", f"{USERS}?limit=2&after={first['next']}", by="op")
    assert ([one["jid"] for one in second["users"]], second["next"]) == (["op@a.example"], None)
    assert (await server.call("GET", f"{USERS}?domain=b.example", by="boss"))[1]["users"] == []


async def test_roles_are_given_by_admins(server):
    path = f"{USERS}/ann@a.example/role"
    assert await server.call("GET", path, by="boss") == (200, {"role": "member"})
    assert await server.call("PUT", path, {"role": "guest"}, by="boss") == (200, {"role": "guest"})
    status, account = await server.call("GET", "/v1/account", by="ann")
    assert (status, account["role"]) == (200, "guest")
    assert (await server.call("PUT", path, {"role": "king"}, by="boss"))[0] == 400
    for by, whose in (("op", "ann"), ("ann", "op"), ("boss", "boss")):
        status, _ = await server.call("PUT", f"{USERS}/{whose}@a.example/role", {"role": "admin"}, by=by)
        assert status == 403, (by, whose)
    assert (await server.call("PUT", f"{USERS}/nobody@a.example/role", {"role": "admin"}, by="boss"))[0] == 404
    assert (await server.call("PUT", f"{USERS}/@/role", {"role": "admin"}, by="boss"))[0] == 400


async def test_disabling_and_enabling(server):
    token = await server.token("ann")
    status, entry = await server.call("POST", f"{USERS}/ann@a.example/disable", by="op")
    assert (status, entry["state"]) == (200, "disabled")
    assert (await server.call("GET", "/v1/account", headers={"Authorization": f"Bearer {token}"}))[0] == 401
    status, entry = await server.call("POST", f"{USERS}/ann@a.example/enable", by="op")
    assert (status, entry["state"]) == (200, "active")
    assert (await server.call("POST", f"{USERS}/boss@a.example/disable", by="op"))[0] == 403
    assert (await server.call("POST", f"{USERS}/boss@a.example/disable", by="boss"))[0] == 403


async def test_deleting_is_for_admins(server):
    assert (await server.call("DELETE", f"{USERS}/ann@a.example", by="op"))[0] == 403
    assert (await server.call("DELETE", f"{USERS}/ann@a.example", by="boss"))[0] == 204
    assert (await server.call("DELETE", f"{USERS}/ann@a.example", by="boss"))[0] == 404


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", USERS),
        ("GET", f"{USERS}/op@a.example/role"),
        ("POST", f"{USERS}/op@a.example/disable"),
        ("POST", f"{USERS}/op@a.example/enable"),
        ("DELETE", f"{USERS}/op@a.example"),
        ("POST", f"{USERS}/op@a.example/password-reset"),
        ("POST", f"{USERS}/nobody@a.example/password-reset"),
    ],
)
async def test_s77_members_learn_nothing(server, method, path):
    """Equal refusals, whether the account exists or not."""
    status, problem = await server.call(method, path, by="ann")
    assert (status, problem["detail"]) == (403, "only admins and operators may do this")
