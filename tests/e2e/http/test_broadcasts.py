"""One text for several recipients over JSON."""

from pathlib import Path
from typing import Any

from config.units import parse_rate
from tests.kit.json_server import json_server, with_limits


async def shown(server: Any, by: str, peer: str) -> list[str]:
    _, page = await server.call("GET", f"/v1/conversations/{peer}/messages", by=by)
    return [message["text"] for message in page["messages"]]


async def test_a_message_for_each_and_a_reason_where_there_is_none(server):
    for name in ("alice", "bob", "carol"):
        await server.token(name)
    wanted = {"to": ["bob@a.example", "nobody@a.example", "carol@a.example"], "client_id": "c1", "text": "news"}
    status, made = await server.call("POST", "/v1/broadcasts", wanted, by="alice")
    assert (status, made["client_id"]) == (201, "c1")
    first, second, third = made["results"]
    assert [one["to"] for one in made["results"]] == wanted["to"]
    assert second["message_id"] is None
    assert second["problem"]["type"] == "urn:parley:problem:recipient-unavailable"
    assert first["message_id"] != third["message_id"]
    assert first.get("problem") is None
    for name in ("bob", "carol"):
        assert await shown(server, name, "alice@a.example") == ["news"]
        assert await shown(server, "alice", f"{name}@a.example") == ["news"]
    _, event = await server.call("GET", f"/v1/messages/{first['message_id']}", by="bob")
    assert "carol" not in str(event)


async def test_the_same_request_again_sends_nothing(server):
    for name in ("alice", "bob", "carol"):
        await server.token(name)
    wanted = {"to": ["bob@a.example", "carol@a.example"], "client_id": "c1", "text": "news"}
    _, first = await server.call("POST", "/v1/broadcasts", wanted, by="alice")
    status, again = await server.call("POST", "/v1/broadcasts", wanted, by="alice")
    assert (status, again) == (200, first)
    for change in ({"text": "other"}, {"to": ["bob@a.example"]}, {"to": ["carol@a.example", "bob@a.example"]}):
        status, problem = await server.call("POST", "/v1/broadcasts", wanted | change, by="alice")
        assert (status, problem["type"]) == (409, "urn:parley:problem:conflict")
    assert await shown(server, "bob", "alice@a.example") == ["news"]


async def test_bounds(server):
    await server.token("alice")
    wanted = {"to": [f"u{number}@a.example" for number in range(51)], "client_id": "c1", "text": "news"}
    assert (await server.call("POST", "/v1/broadcasts", wanted, by="alice"))[0] == 422
    assert (await server.call("POST", "/v1/broadcasts", wanted | {"to": []}, by="alice"))[0] == 400


async def test_s78_broadcasts_are_slowed(tmp_path: Path) -> None:
    """Every address counts as a message."""
    limits = with_limits(off_on_loopback=False, stanzas_per_account=parse_rate("60 per hour"))
    async with json_server(tmp_path / "data" / "parley.db", limits=limits) as server:
        await server.token("alice")
        wanted = {"to": [f"u{number}@a.example" for number in range(50)], "text": "news"}
        assert (await server.call("POST", "/v1/broadcasts", wanted | {"client_id": "1"}, by="alice"))[0] == 201
        status, problem = await server.call("POST", "/v1/broadcasts", wanted | {"client_id": "2"}, by="alice")
        assert (status, problem["type"]) == (429, "urn:parley:problem:rate-limited")
