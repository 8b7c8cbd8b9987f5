"""Profiles and settings over JSON."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kit.json_server import OPEN, JsonServer, json_server

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
NOTHING = {"jid": "alice@a.example", "name": "", "bio": "", "avatar_id": None, "avatar_url": None}


async def upload(server: JsonServer, by: str, data: bytes, kind: str = "image/png") -> tuple[int, Any]:
    sent = {"Authorization": f"Bearer {await server.token(by)}", "Content-Type": kind}
    async with server.http.put(server.url + "/v1/profile/avatar", data=data, headers=sent) as answer:
        return answer.status, await answer.json(content_type=None)


async def download(server: JsonServer, by: str, path: str) -> tuple[int, bytes, Any]:
    sent = {"Authorization": f"Bearer {await server.token(by)}"}
    async with server.http.get(server.url + path, headers=sent) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_a_profile_is_kept_and_shown(server: JsonServer) -> None:
    assert await server.call("GET", "/v1/profile", by="alice") == (200, NOTHING)
    wanted = {"name": "Alice", "bio": "hello"}
    status, own = await server.call("PUT", "/v1/profile", wanted, by="alice")
    assert (status, own) == (200, NOTHING | wanted)
    assert await server.call("GET", "/v1/users/Alice@a.example/profile", by="bob") == (200, own)
    assert (await server.call("PUT", "/v1/profile", {"name": ""}, by="alice"))[1] == NOTHING


async def test_texts_are_such_as_xml_can_hold(server: JsonServer) -> None:
    for text in ("a\x01", "\x1b", "\ufffe"):
        assert (await server.call("PUT", "/v1/profile", {"name": text}, by="alice"))[0] == 400
        assert (await server.call("PUT", "/v1/profile", {"name": "a", "bio": text}, by="alice"))[0] == 400
    wanted = {"name": "<&>'\"\u00e9", "bio": "two\nlines\r\n\ttab \U0001f600"}
    _, found = await server.call("PUT", "/v1/profile", wanted, by="alice")
    assert found == NOTHING | wanted


async def test_s69_what_shows_nothing_is_as_good_as_none(server: JsonServer) -> None:
    await server.token("alice")
    answers = []
    for jid in ("alice@a.example", "nobody@a.example"):
        for what in ("profile", "avatar"):
            status, problem = await server.call("GET", f"/v1/users/{jid}/{what}", by="bob")
            answers.append((status, problem | {"request_id": "", "instance": ""}))
    assert {status for status, _ in answers} == {404}
    assert answers[:2] == answers[2:]
    await server.call("PUT", "/v1/profile", {"name": "Alice"}, by="alice")
    assert (await server.call("POST", "/v1/blocks", {"address": "bob@a.example"}, by="alice"))[0] == 204
    assert (await server.call("GET", "/v1/users/alice@a.example/profile", by="bob"))[0] == 404


async def test_a_picture_is_kept_and_served(server: JsonServer) -> None:
    status, own = await upload(server, "alice", PNG, "image/gif")
    assert status == 200
    assert own["avatar_url"] == "/v1/users/alice@a.example/avatar"
    status, data, headers = await download(server, "bob", own["avatar_url"])
    assert (status, data, headers["Content-Type"]) == (200, PNG, "image/png")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["ETag"] == f'"{own["avatar_id"]}"'
    assert (await server.call("DELETE", "/v1/profile/avatar", by="alice"))[0] == 204
    assert (await download(server, "bob", own["avatar_url"]))[0] == 404
    assert (await server.call("DELETE", "/v1/profile/avatar", by="alice"))[0] == 204


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", b"%PDF-"])
async def test_s127_what_is_no_picture_is_refused(server: JsonServer, data: bytes) -> None:
    assert (await upload(server, "alice", data))[0] == 422


async def test_s127_a_picture_has_a_size(server: JsonServer) -> None:
    assert (await upload(server, "alice", PNG + b"x" * 200_000))[0] == 413


async def test_settings_are_for_the_account_alone(server: JsonServer) -> None:
    assert await server.call("GET", "/v1/settings", by="alice") == (200, {"settings": {}})
    wanted = {"settings": {"theme": "dark", "list": [1, None, {"a": 1.5}]}}
    assert (await server.call("PUT", "/v1/settings", wanted, by="alice"))[0] == 204
    assert await server.call("GET", "/v1/settings", by="alice") == (200, wanted)
    assert await server.call("GET", "/v1/settings", by="bob") == (200, {"settings": {}})


async def test_s145_settings_have_a_quota(server: JsonServer) -> None:
    for size, expected in ((200_000, 204), (1_100_000, 413)):
        status, _ = await server.call("PUT", "/v1/settings", {"settings": {"a": "x" * size}}, by="alice")
        assert status == expected, size


async def test_the_directory_has_names_of_profiles(tmp_path: Path) -> None:
    async with json_server(tmp_path / "p.db", accounts=replace(OPEN, directory="members")) as server:
        for name in ("alice", "alina", "alma"):
            await server.token(name)
        await server.call("PUT", "/v1/profile", {"name": "Alice A."}, by="alice")
        _, found = await server.call("GET", "/v1/users?query=al", by="bob")
        assert [one["name"] for one in found["users"]] == ["Alice A.", "alina", "alma"]
