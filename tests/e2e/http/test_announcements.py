"""Announcements and notices over JSON."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from homeserver.domain.accounts import Role
from tests.kit.json_server import JsonServer, json_server

PATH = "/v1/admin/announcements"
MOTD = "/v1/admin/notices/a.example/motd"


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[JsonServer]:
    async with json_server(tmp_path / "data" / "p.db") as found:
        for name, role in (("boss", Role.ADMIN), ("op", Role.OPERATOR), ("ann", Role.MEMBER)):
            await found.accounts.register(name, "a.example", "password", admin=True, role=role)
        await found.accounts.register("ben", "b.example", "password", admin=True)
        yield found


async def finished(server: JsonServer) -> dict:
    """The newest announcement, when all were told."""
    async with asyncio.timeout(10):
        while True:
            _, found = await server.call("GET", PATH, by="boss")
            if found["announcements"][0]["finished"]:
                return found["announcements"][0]
            await asyncio.sleep(0.01)


async def test_to_all_accounts_of_every_domain(server):
    status, made = await server.call("POST", PATH, {"text": " New rules "}, by="boss")
    assert (status, made["to"], made["domain"], made["text"]) == (201, "all", None, "New rules")
    assert (await finished(server))["told"] == 4
    async with server.socket("ann") as ann:
        frame = await ann.take("message")
        assert (frame["event"]["from"], frame["event"]["text"]) == ("a.example", "New rules")
    ben = await server.accounts.find("ben@b.example")
    [entry] = await server.mailboxes.pending(ben, 10)
    assert entry.peer == "b.example"


async def test_to_a_role_of_a_domain(server):
    status, _ = await server.call(
        "POST", PATH, {"text": "To members", "to": "member", "domain": "A.example"}, by="boss"
    )
    assert status == 201
    found = await finished(server)
    assert (found["to"], found["domain"], found["told"]) == ("member", "a.example", 1)


async def test_to_who_is_online_and_kept_nowhere(server):
    async with server.socket("ann") as ann:
        status, made = await server.call("POST", PATH, {"text": "Down at noon", "to": "online"}, by="op")
        assert (status, made["id"], made["told"], made["finished"]) == (201, None, 1, True)
        assert "Down at noon" in str(await ann.take("ephemeral", "message"))
    assert (await server.call("GET", PATH, by="op"))[1] == {"announcements": []}
    assert await server.mailboxes.pending(await server.accounts.find("boss@a.example"), 10) == []


@pytest.mark.parametrize(
    "body, status",
    [
        ({"text": "x", "domain": "c.example"}, 404),
        ({"text": "x", "to": "everybody"}, 400),
        ({"text": ""}, 400),
        ({"text": "   "}, 422),
        ({"text": "\u0007"}, 422),
        ({"text": "x" * 10_001}, 400),
    ],
)
async def test_what_is_refused(server, body, status):
    assert (await server.call("POST", PATH, body, by="boss"))[0] == status


async def test_who_may_say_something_to_everybody(server):
    assert (await server.call("POST", PATH, {"text": "x"}, by="op"))[0] == 403
    for by, to in (("ann", "all"), ("ann", "online"), ("ann", "member")):
        assert (await server.call("POST", PATH, {"text": "x", "to": to}, by=by))[0] == 403
    assert (await server.call("GET", PATH, by="ann"))[0] == 403
    for by in ("ann", "op"):
        assert (await server.call("GET", MOTD, by=by))[0] == 403
        assert (await server.call("PUT", MOTD, {"text": "x"}, by=by))[0] == 403
        assert (await server.call("DELETE", MOTD, by=by))[0] == 403


async def test_the_message_of_the_day(server):
    assert (await server.call("GET", MOTD, by="boss"))[0] == 404
    assert (await server.call("PUT", MOTD, {"text": "Tea", "again": False}, by="boss"))[0] == 404
    status, made = await server.call("PUT", MOTD, {"text": "Tea at four"}, by="boss")
    assert (status, made["kind"], made["domain"], made["text"]) == (200, "motd", "a.example", "Tea at four")
    async with server.socket("ann") as ann:
        assert await ann.texts(1) == ["Tea at four"]
    assert (await server.call("PUT", MOTD, {"text": "Tea at five", "again": False}, by="boss"))[0] == 200
    assert (await server.call("GET", MOTD, by="boss"))[1]["text"] == "Tea at five"
    assert (await server.call("GET", "/v1/admin/notices/a.example/other", by="boss"))[0] == 404
    assert (await server.call("DELETE", MOTD, by="boss"))[0] == 204
    assert (await server.call("DELETE", MOTD, by="boss"))[0] == 404
