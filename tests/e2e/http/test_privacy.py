"""Block list, archive preferences, strangers and reports over JSON."""

import pytest


async def test_the_block_list(server):
    await server.token("bob")
    assert await server.call("GET", "/v1/blocks", by="alice") == (200, {"blocks": []})
    for address in ("bob@a.example", "Spam.example", "eve@far.example/x"):
        assert (await server.call("POST", "/v1/blocks", {"address": address}, by="alice"))[0] == 204
    _, found = await server.call("GET", "/v1/blocks", by="alice")
    assert found == {"blocks": ["bob@a.example", "eve@far.example/x", "spam.example"]}
    wanted = {"text": "hello", "client_id": "1"}
    status, problem = await server.call("POST", "/v1/messages", wanted | {"to": "bob@a.example"}, by="alice")
    assert (status, problem["type"]) == (403, "urn:parley:problem:blocked")
    answers = []
    for to in ("alice@a.example", "nobody@a.example"):
        status, problem = await server.call("POST", "/v1/messages", wanted | {"to": to}, by="bob")
        answers.append((status, problem | {"request_id": ""}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert (await server.call("DELETE", "/v1/blocks/bob@a.example", by="alice"))[0] == 204
    await server.send("bob", "alice@a.example", "hello", "2")
    assert (await server.call("DELETE", "/v1/blocks", by="alice"))[0] == 204
    assert await server.call("GET", "/v1/blocks", by="alice") == (200, {"blocks": []})


@pytest.mark.parametrize(("address", "status"), [("alice@a.example", 422), ("@", 400), ("", 400)])
async def test_what_cannot_be_blocked(server, address, status):
    assert (await server.call("POST", "/v1/blocks", {"address": address}, by="alice"))[0] == status


async def test_archive_preferences(server):
    await server.token("bob")
    assert (await server.call("GET", "/v1/privacy/archive", by="alice"))[1] == {
        "default": "always",
        "always": [],
        "never": [],
    }
    wanted = {"default": "never", "always": ["Carl@a.example"]}
    status, kept = await server.call("PUT", "/v1/privacy/archive", wanted, by="alice")
    assert (status, kept) == (200, {"default": "never", "always": ["carl@a.example"], "never": []})
    async with server.socket("alice") as socket:
        await socket.take("synced")
        await server.send("bob", "alice@a.example", "psst", "1")
        frame = await socket.take("ephemeral")
        assert frame["event"]["text"] == "psst"
    _, mine = await server.call("GET", "/v1/conversations", by="alice")
    _, theirs = await server.call("GET", "/v1/conversations", by="bob")
    assert (len(mine["conversations"]), len(theirs["conversations"])) == (0, 1)
    assert (await server.call("PUT", "/v1/privacy/archive", {"default": "some"}, by="alice"))[0] == 400


async def test_strangers(server):
    await server.token("bob")
    assert await server.call("GET", "/v1/privacy", by="alice") == (200, {"strangers": None, "last_seen": "contacts"})
    assert (await server.call("PUT", "/v1/privacy", {"strangers": "refuse"}, by="alice"))[0] == 204
    assert await server.call("GET", "/v1/privacy", by="alice") == (
        200,
        {"strangers": "refuse", "last_seen": "contacts"},
    )
    message = {"to": "alice@a.example", "text": "hello", "client_id": "1"}
    assert (await server.call("POST", "/v1/messages", message, by="bob"))[0] == 404
    await server.send("alice", "bob@a.example", "hello", "2")
    await server.send("bob", "alice@a.example", "hello", "3")


async def test_reports(server):
    await server.token("alice")
    number = await server.send("bob", "alice@a.example", "buy", "1")
    report = {"address": "bob@a.example", "reason": "spam", "text": "again", "message_ids": [number]}
    assert await server.call("POST", "/v1/reports", report, by="alice") == (201, {"report_id": 1})
    assert (await server.call("POST", "/v1/reports", report | {"reason": "boring"}, by="alice"))[0] == 400
