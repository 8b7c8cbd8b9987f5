"""Sending and reading over JSON: once per client_id, in order, page by page, only one's own."""

import asyncio

import pytest

from config.settings import ArchiveSettings
from tests.kit.json_server import json_server


async def test_a_message_reaches_the_recipient_as_chat_with_body_and_origin_id(server):
    sent = await server.send("alice", "bob@a.example", "hi", "c1") if await server.token("bob") else 0
    status, page = await server.call("GET", "/v1/conversations/alice@a.example/messages", by="bob")
    assert status == 200
    (event,) = page["messages"]
    assert event["id"] == sent
    assert (event["text"], event["kind"], event["client_id"], event["direction"]) == ("hi", "chat", "c1", "incoming")
    bob = await server.accounts.find("bob@a.example")
    entry = await server.mailboxes.find(bob, sent)
    assert b"<body>hi</body>" in entry.payload
    assert b"<origin-id xmlns='urn:xmpp:sid:0' id='c1'/>" in entry.payload
    assert b"type='chat'" in entry.payload


async def test_to_another_domain(server):
    await server.send("alice", "bob@far.example", "hi", "c1")
    ((destination, element),) = server.outbox.durable
    assert destination == "far.example"
    assert element.get("to") == "bob@far.example"
    await server.received("bob@far.example/x", "alice@a.example", "hello", "r1")
    _, page = await server.call("GET", "/v1/conversations/bob@far.example/messages", by="alice")
    assert [(event["text"], event["direction"]) for event in page["messages"]] == [
        ("hi", "outgoing"),
        ("hello", "incoming"),
    ]


async def test_the_same_client_id_is_one_message(server):
    await server.token("bob")
    body = {"to": "bob@a.example", "text": "hi", "client_id": "c1"}
    first, made = await server.call("POST", "/v1/messages", body, by="alice")
    again, same = await server.call("POST", "/v1/messages", body, by="alice")
    assert (first, again) == (201, 200)
    assert made == same
    status, problem = await server.call("POST", "/v1/messages", body | {"text": "other"}, by="alice")
    assert (status, problem["type"]) == (409, "urn:parley:problem:conflict")
    _, page = await server.call("GET", "/v1/conversations/bob@a.example/messages", by="alice")
    assert len(page["messages"]) == 1


async def test_requests_in_flight_under_one_client_id_are_joined(server):
    await server.token("bob")
    body = {"to": "bob@a.example", "text": "hi", "client_id": "c1"}
    answers = await asyncio.gather(*(server.call("POST", "/v1/messages", body, by="alice") for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200] * 9 + [201]
    assert len({answer["message_id"] for _, answer in answers}) == 1
    _, page = await server.call("GET", "/v1/conversations/alice@a.example/messages", by="bob")
    assert len(page["messages"]) == 1


async def test_the_client_id_holds_over_a_restart(tmp_path):
    path = tmp_path / "data" / "parley.db"
    async with json_server(path) as server:
        await server.token("bob")
        first = await server.send("alice", "bob@a.example", "hi", "c1")
    async with json_server(path) as server:
        assert await server.send("alice", "bob@a.example", "hi", "c1") == first
        body = {"to": "bob@a.example", "text": "changed", "client_id": "c1"}
        assert (await server.call("POST", "/v1/messages", body, by="alice"))[0] == 409


async def test_two_accounts_may_use_the_same_client_id(server):
    await server.token("bob")
    assert await server.send("alice", "bob@a.example", "hi", "c1") != await server.send(
        "bob", "alice@a.example", "hi", "c1"
    )


async def test_integer_ids_are_aliases_of_addresses(server):
    await server.token("bob")
    bob = await server.accounts.find("bob@a.example")
    await server.send("alice", bob.id, "hi", "c1")
    _, page = await server.call("GET", f"/v1/conversations/{bob.id}/messages", by="alice")
    assert [event["text"] for event in page["messages"]] == ["hi"]
    status, _ = await server.call("POST", "/v1/messages", {"to": 999, "text": "x", "client_id": "c2"}, by="alice")
    assert status == 404


async def test_paging_both_ways(server):
    await server.token("bob")
    ids = [await server.send("alice", "bob@a.example", f"m{n}", f"c{n}") for n in range(7)]
    where = "/v1/conversations/bob@a.example/messages"

    async def page(query):
        _, found = await server.call("GET", where + query, by="alice")
        return [event["id"] for event in found["messages"]], found["complete"]

    assert await page("?limit=3") == (ids[4:], False)
    assert await page(f"?limit=3&before={ids[4]}") == (ids[1:4], False)
    assert await page(f"?limit=3&before={ids[1]}") == (ids[:1], True)
    assert await page("?limit=3&after=0") == (ids[:3], False)
    assert await page(f"?limit=9&after={ids[2]}") == (ids[3:], True)
    assert await page("?limit=2&offset=2") == (ids[3:5], False)
    _, first = await server.call("GET", where, by="alice")
    stamp = first["messages"][3]["sent_at"]
    assert await page(f"?timestamp={stamp}") == (ids[:4], True)
    assert await page(f"?delta=true&timestamp={stamp}") == (ids[3:], True)


async def test_sync_goes_over_all_conversations(server):
    for name in ("bob", "carol"):
        await server.token(name)
    ids = [await server.send("alice", f"{name}@a.example", "hi", f"c-{name}") for name in ("bob", "carol", "bob2")[:2]]
    _, first = await server.call("GET", "/v1/sync?limit=1", by="alice")
    assert [event["position"] for event in first["events"]] == ids[:1]
    assert not first["complete"]
    _, second = await server.call("GET", f"/v1/sync?cursor={first['cursor']}", by="alice")
    assert [event["position"] for event in second["events"]] == ids[1:]
    assert second["complete"]
    _, third = await server.call("GET", f"/v1/sync?cursor={second['cursor']}", by="alice")
    assert third == {"events": [], "cursor": second["cursor"], "complete": True}


async def test_conversations_newest_first(server):
    for name in ("bob", "carol", "dave"):
        await server.token(name)
        await server.send("alice", f"{name}@a.example", "hi", f"c-{name}")
    await server.send("alice", "bob@a.example", "again", "c-last")
    _, first = await server.call("GET", "/v1/conversations?limit=2", by="alice")
    assert [made["conversation"] for made in first["conversations"]] == ["bob@a.example", "dave@a.example"]
    assert first["conversations"][0]["last_message"]["text"] == "again"
    _, rest = await server.call("GET", f"/v1/conversations?limit=2&before={first['next']}", by="alice")
    assert [made["conversation"] for made in rest["conversations"]] == ["carol@a.example"]
    assert rest["next"] is None
    _, skipped = await server.call("GET", "/v1/conversations?limit=2&offset=1", by="alice")
    assert [made["conversation"] for made in skipped["conversations"]] == ["dave@a.example", "carol@a.example"]


async def test_nobody_reads_the_messages_of_others(server):
    for name in ("bob", "mallory"):
        await server.token(name)
    sent = await server.send("alice", "bob@a.example", "secret", "c1")
    own, event = await server.call("GET", f"/v1/messages/{sent}", by="bob")
    assert (own, event["text"]) == (200, "secret")
    foreign = await server.call("GET", f"/v1/messages/{sent}", by="mallory")
    absent = await server.call("GET", "/v1/messages/12345", by="mallory")
    assert foreign[0] == absent[0] == 404
    assert foreign[1] | {"request_id": ""} == absent[1] | {"request_id": ""}
    _, page = await server.call("GET", "/v1/conversations/alice@a.example/messages", by="mallory")
    assert page["messages"] == []
    _, synced = await server.call("GET", f"/v1/sync?cursor={sent - 1}", by="mallory")
    assert synced["events"] == []


async def test_unknown_and_unreachable_recipients(server):
    for to in ("nobody@a.example", "a.example/x", "nobody"):
        status, problem = await server.call(
            "POST", "/v1/messages", {"to": to, "text": "x", "client_id": f"c-{to}"}, by="alice"
        )
        assert status == 404, problem


@pytest.mark.parametrize(
    "change",
    [
        {"to": "@a.example"},
        {"to": "bob@a.example/"},
        {"to": -1},
        {"to": 2**53},
        {"text": "a\x00b"},
        {"text": "a\x08b"},
        {"text": None},
        {"client_id": ""},
        {"client_id": "x" * 256},
        {"client_id": "a\x01"},
        {"kind": "groupchat"},
        {"xml": ["<x/>"]},
        {"xml": ["<!DOCTYPE x><x xmlns='urn:a'/>"]},
        {"xml": ["<a xmlns='urn:a'>" * 40 + "</a>" * 40]},
        {"xml": ["<error xmlns='jabber:client'/>"]},
        {"extra": 1},
        {"thread": 5},
    ],
)
async def test_bodies_that_are_refused(server, change):
    await server.token("bob")
    body = {"to": "bob@a.example", "text": "x", "client_id": "c1"} | change
    status, problem = await server.call("POST", "/v1/messages", body, by="alice")
    assert status == 400, problem


async def test_xml_travels_and_wrappers_do_not(server):
    await server.token("bob")
    body = {
        "to": "bob@a.example",
        "client_id": "c1",
        "text": "x",
        "thread": "t",
        "reply_to": {"id": "q"},
        "xml": [
            "<keys xmlns='urn:example:e2e'><k>1</k></keys>",
            "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@a.example' id='9'/>",
        ],
    }
    _, made = await server.call("POST", "/v1/messages", body, by="alice")
    _, event = await server.call("GET", f"/v1/messages/{made['message_id']}", by="bob")
    assert event["xml"] == ["<keys xmlns='urn:example:e2e'><k>1</k></keys>"]
    assert (event["thread"], event["reply_to"]) == ("t", {"id": "q"})


async def test_a_message_that_is_too_large(server):
    await server.token("bob")
    body = {"to": "bob@a.example", "text": "x" * 300_000, "client_id": "c1"}
    status, problem = await server.call("POST", "/v1/messages", body, by="alice")
    assert (status, problem["type"]) == (413, "urn:parley:problem:too-large")


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=0",
        "limit=1001",
        "limit=1000000000",
        "limit=x",
        "before=-1",
        "before=9007199254740992",
        "offset=-1",
        "timestamp=now",
        "limit=1&limit=2",
        "before=%00",
    ],
)
async def test_queries_that_are_refused(server, query):
    for path in ("/v1/conversations", "/v1/conversations/bob@a.example/messages"):
        assert (await server.call("GET", f"{path}?{query}", by="alice"))[0] == 400


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%", "_", "\\", '"; DROP TABLE log; --', "a'b\"c"])
async def test_text_meant_for_the_store_is_text(server, text):
    await server.token("bob")
    sent = await server.send("alice", "bob@a.example", text, text)
    _, event = await server.call("GET", f"/v1/messages/{sent}", by="bob")
    assert (event["text"], event["client_id"]) == (text, text)


async def test_pages_are_as_long_as_the_settings_say(tmp_path):
    archive = ArchiveSettings(page_default=2, page_max=3)
    async with json_server(tmp_path / "parley.db", archive=archive) as server:
        await server.token("bob")
        for number in range(5):
            await server.send("alice", "bob@a.example", f"m{number}", f"c{number}")
        for path, name in (("/v1/sync", "events"), ("/v1/conversations/bob@a.example/messages", "messages")):
            for query, expected in (("", 2), ("?limit=1", 1), ("?limit=100", 3)):
                _, page = await server.call("GET", path + query, by="alice")
                assert (len(page[name]), page["complete"]) == (expected, False), path
