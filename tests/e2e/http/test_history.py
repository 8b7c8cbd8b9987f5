"""Reading, searching, correcting, reacting to, taking back and deleting messages over JSON."""

from typing import Any

import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.json_server import JsonServer

ALICE, BOB = "alice@a.example", "bob@a.example"


async def events(server: JsonServer, by: str, peer: str) -> list[dict[str, Any]]:
    status, page = await server.call("GET", f"/v1/conversations/{peer}/messages", by=by)
    assert status == 200
    found: list[dict[str, Any]] = page["messages"]
    return found


async def conversation(server: JsonServer, by: str) -> dict[str, Any]:
    _, listed = await server.call("GET", "/v1/conversations", by=by)
    (found,) = listed["conversations"]
    return dict(found)


@pytest.fixture
async def first(server: JsonServer) -> int:
    """A message of alice to bob."""
    await server.token("bob")
    return await server.send("alice", BOB, "hello bob", "c1")


async def test_unread_counts_fall_when_a_conversation_is_read(server: JsonServer, first: int) -> None:
    second = await server.send("alice", BOB, "still there?", "c2")
    found = await conversation(server, "bob")
    assert (found["unread"], found["read_upto"], found["last_message"]["id"]) == (2, None, second)
    assert (await conversation(server, "alice"))["unread"] == 0
    status, read = await server.call("POST", f"/v1/conversations/{ALICE}/read", {"message_id": first}, by="bob")
    assert (status, read) == (200, {"conversation": ALICE, "read_upto": first})
    found = await conversation(server, "bob")
    assert (found["unread"], found["read_upto"]) == (1, first)
    await server.call("POST", f"/v1/conversations/{ALICE}/read", {"message_id": second}, by="bob")
    _, again = await server.call("POST", f"/v1/conversations/{ALICE}/read", {"message_id": first}, by="bob")
    assert again["read_upto"] == second
    assert (await conversation(server, "bob"))["unread"] == 0


async def test_a_read_conversation_is_told_to_who_asked(server: JsonServer, first: int) -> None:
    await server.call("POST", f"/v1/conversations/{ALICE}/read", {"message_id": first}, by="bob")
    assert [event.get("displayed") for event in await events(server, "alice", BOB)] == [None]
    for number, tell in ((2, True), (3, False)):
        body = {
            "to": BOB,
            "text": "seen?",
            "client_id": f"c{number}",
            "xml": [f"<markable xmlns='{ns.CHAT_MARKERS}'/>"],
        }
        _, sent = await server.call("POST", "/v1/messages", body, by="alice")
        wanted = {"message_id": sent["message_id"], "tell": tell}
        assert (await server.call("POST", f"/v1/conversations/{ALICE}/read", wanted, by="bob"))[0] == 200
    told = [(event["direction"], event.get("displayed")) for event in await events(server, "alice", BOB)]
    assert told == [("outgoing", None), ("outgoing", None), ("incoming", "c2"), ("outgoing", None)]
    assert (await conversation(server, "alice"))["last_message"]["text"] == "seen?"


async def test_only_messages_of_the_conversation_can_be_read(server: JsonServer, first: int) -> None:
    for peer, message_id in ((BOB, first), (ALICE, first + 1), ("carol@far.example", first)):
        status, _ = await server.call("POST", f"/v1/conversations/{peer}/read", {"message_id": message_id}, by="bob")
        assert status == 404


async def test_a_displayed_marker_over_xmpp_counts_as_read(server: JsonServer, first: int) -> None:
    marker = f"<displayed xmlns='{ns.CHAT_MARKERS}' id='c1'/>"
    await server.call("POST", "/v1/messages", {"to": ALICE, "client_id": "d1", "xml": [marker]}, by="bob")
    found = await conversation(server, "bob")
    assert (found["unread"], found["read_upto"]) == (0, first)


async def test_a_correction_names_the_first_message(server: JsonServer, first: int) -> None:
    status, made = await server.call("PATCH", f"/v1/messages/{first}", {"text": "hi", "client_id": "c2"}, by="alice")
    assert status == 201
    status, again = await server.call("PATCH", f"/v1/messages/{first}", {"text": "hi", "client_id": "c2"}, by="alice")
    assert (status, again) == (200, made)
    body = {"text": "hi!", "client_id": "c3"}
    assert (await server.call("PATCH", f"/v1/messages/{made['message_id']}", body, by="alice"))[0] == 201
    found = await events(server, "bob", ALICE)
    assert [(event["text"], event.get("replaces")) for event in found] == [
        ("hello bob", None),
        ("hi", "c1"),
        ("hi!", "c1"),
    ]
    assert (await conversation(server, "bob"))["unread"] == 1


async def test_s88_others_messages_can_be_neither_corrected_nor_taken_back(server: JsonServer, first: int) -> None:
    body = {"text": "never said", "client_id": "x1"}
    assert (await server.call("PATCH", f"/v1/messages/{first}", body, by="bob"))[0] == 403
    assert (await server.call("DELETE", f"/v1/messages/{first}?for=all", by="bob"))[0] == 403
    assert (await server.call("PATCH", f"/v1/messages/{first}", body, by="eve"))[0] == 404
    assert (await server.call("DELETE", f"/v1/messages/{first}?for=all", by="eve"))[0] == 404
    forged = [f"<retract xmlns='{ns.RETRACTION}' id='c1'/>"]
    await server.call("POST", "/v1/messages", {"to": ALICE, "client_id": "x2", "xml": forged}, by="bob")
    await server.call("POST", "/v1/messages", {"to": BOB, "client_id": "x3", "xml": forged}, by="eve")
    assert (await events(server, "bob", ALICE))[0]["text"] == "hello bob"


async def test_a_message_is_taken_back_for_all(server: JsonServer, first: int) -> None:
    status, made = await server.call("DELETE", f"/v1/messages/{first}?for=all", by="alice")
    assert status == 200
    for by, peer in (("alice", BOB), ("bob", ALICE)):
        left, retraction = await events(server, by, peer)
        assert "text" not in left
        assert (left["id"], left["stanza_id"], left["retracted"]["id"]) == (first, "c1", made["client_id"])
        assert (retraction["retracts"], retraction["id"]) == ("c1", made["message_id"])
        _, found = await server.call("GET", "/v1/search?q=hello", by=by)
        assert found["messages"] == []
    assert (await conversation(server, "bob"))["unread"] == 0
    assert (await server.call("DELETE", f"/v1/messages/{first}?for=all", by="alice"))[0] == 204


async def test_a_message_is_deleted_for_oneself(server: JsonServer, first: int) -> None:
    assert (await server.call("DELETE", f"/v1/messages/{first}?for=me", by="bob"))[0] == 204
    assert (await server.call("DELETE", f"/v1/messages/{first}", by="bob"))[0] == 404
    assert (await server.call("GET", f"/v1/messages/{first}", by="bob"))[0] == 404
    assert await events(server, "bob", ALICE) == []
    assert [event["text"] for event in await events(server, "alice", BOB)] == ["hello bob"]
    assert (await server.call("DELETE", f"/v1/messages/{first}?for=everybody", by="alice"))[0] == 400


async def test_reactions_name_the_message(server: JsonServer, first: int) -> None:
    path = f"/v1/messages/{first}/reactions"
    status, _ = await server.call("PUT", path, {"emojis": ["👍", "🎉", "👍"]}, by="bob")
    assert status == 201
    await server.call("PUT", path, {"emojis": []}, by="bob")
    found = [event.get("reaction") for event in await events(server, "alice", BOB)]
    assert found == [None, {"to": "c1", "emojis": ["👍", "🎉"]}, {"to": "c1", "emojis": []}]
    assert (await conversation(server, "alice"))["unread"] == 0
    assert (await server.call("PUT", path, {"emojis": ["x" * 65]}, by="bob"))[0] == 400


async def test_search_by_words_conversation_and_page(server: JsonServer, first: int) -> None:
    for number in range(5):
        await server.send("alice", BOB, f"tea number {number}", f"t{number}")
    await server.send("alice", "far@far.example", "tea from afar", "t9")
    _, found = await server.call("GET", "/v1/search?q=tea", by="alice")
    assert [event["text"] for event in found["messages"]] == [
        "tea from afar",
        *(f"tea number {number}" for number in (4, 3, 2, 1, 0)),
    ]
    _, page = await server.call("GET", f"/v1/search?q=tea&with={BOB}&limit=2", by="alice")
    assert [event["text"] for event in page["messages"]] == ["tea number 4", "tea number 3"]
    _, page = await server.call("GET", f"/v1/search?q=tea&with={BOB}&limit=3&cursor={page['next']}", by="alice")
    assert [event["text"] for event in page["messages"]] == ["tea number 2", "tea number 1", "tea number 0"]
    assert page["next"] is None
    _, found = await server.call("GET", '/v1/search?q="number 3"', by="bob")
    assert [event["text"] for event in found["messages"]] == ["tea number 3"]
    assert (await server.call("GET", "/v1/search?q=tea", by="eve"))[1]["messages"] == []


@pytest.mark.parametrize("query", ["q=", "q=%20", "q=%3F!", "q=" + "x" * 257, "q=" + "a%20" * 11, ""])
async def test_s163_a_search_without_words_or_with_too_many_is_refused(server: JsonServer, query: str) -> None:
    assert (await server.call("GET", f"/v1/search?{query}", by="alice"))[0] == 400


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "a OR b", "words:a NOT b", "NEAR(a b)", "a' OR '1'='1", "a:*|!b", "^a {b}"]
)
async def test_s163_what_looks_like_a_pattern_is_words(server: JsonServer, first: int, pattern: str) -> None:
    await server.send("alice", BOB, f"exactly {pattern} here", "p1")
    status, found = await server.call(
        "GET", "/v1/search?q=" + pattern.replace("+", "%2B").replace("^", "%5E"), by="bob"
    )
    assert status == 200
    assert [event["client_id"] for event in found["messages"]] == ["p1"]
