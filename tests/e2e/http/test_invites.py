"""Invitations over JSON, their pages, links that set a password, and the directory."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from config.units import Rate
from homeserver.domain.accounts import Role
from tests.kit.json_server import OPEN, JsonServer, json_server, with_limits

INVITE = replace(OPEN, registration="invite", directory="members")


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[JsonServer]:
    async with json_server(tmp_path / "data" / "p.db", accounts=INVITE) as found:
        for name, role in (("boss", Role.ADMIN), ("ann", Role.MEMBER), ("gus", Role.GUEST)):
            await found.accounts.register(name, "a.example", "password", admin=True, role=role)
        yield found


async def invited(server: JsonServer, by: str = "ann", **wish: Any) -> dict[str, Any]:
    status, made = await server.call("POST", "/v1/invites", wish, by=by)
    assert status == 201, made
    return dict(made)


async def page(server: JsonServer, token: str, data: dict[str, str] | None = None) -> tuple[int, str, Any]:
    method = "GET" if data is None else "POST"
    async with server.http.request(method, f"{server.url}/invite/{token}", data=data) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_making_listing_and_revoking(server):
    made = await invited(server, kind="both", uses=2, expires_in=3600)
    assert made["uri"] == f"xmpp:ann@a.example?roster;preauth={made['invite']};ibr=y"
    assert made["url"] == f"https://a.example/invite/{made['invite']}"
    status, found = await server.call("GET", "/v1/invites", by="ann")
    [entry] = found["invites"]
    assert (status, entry["id"], entry["kind"], entry["uses"]) == (200, made["id"], "both", 2)
    assert made["invite"] not in str(found)
    assert (await server.call("GET", "/v1/invites", by="boss"))[1] == {"invites": []}
    for path in (f"/v1/invites/{made['id']}", "/v1/invites/x", "/v1/invites/99999999999"):
        assert (await server.call("DELETE", path, by="boss"))[0] == 404
    assert (await server.call("DELETE", f"/v1/invites/{made['id']}", by="ann"))[0] == 204
    assert (await page(server, made["invite"]))[0] == 410
    body = {"username": "friend", "password": "password", "invite": made["invite"]}
    assert (await server.call("POST", "/v1/accounts", body))[0] == 403


async def test_an_invited_account_is_a_contact(server):
    made = await invited(server)
    body = {"username": "friend", "password": "password", "invite": made["invite"]}
    assert (await server.call("POST", "/v1/accounts", body))[0] == 201
    account = await server.accounts.find("friend@a.example")
    [contact] = await server.contacts.list(account)
    assert (contact.jid.bare, contact.state.subscription) == ("ann@a.example", "both")


@pytest.mark.parametrize(
    "by, wish, status",
    [
        ("gus", {"kind": "contact"}, 403),
        ("ann", {"kind": "account", "username": "root"}, 403),
        ("ann", {"kind": "account", "role": "admin"}, 403),
        ("ann", {"kind": "account", "domain": "c.example"}, 404),
        ("ann", {"uses": 1000}, 422),
        ("ann", {"expires_in": 31 * 86400}, 422),
        ("ann", {"kind": "password"}, 400),
        ("ann", {"expires_in": 1}, 400),
        ("boss", {"kind": "account", "username": "ann"}, 409),
    ],
)
async def test_what_is_refused(server, by, wish, status):
    assert (await server.call("POST", "/v1/invites", wish, by=by))[0] == status


async def test_the_page_of_an_invitation(server):
    made = await invited(server)
    for _ in range(2):  # looking uses nothing up
        status, text, headers = await page(server, made["invite"])
    assert status == 200
    assert "ann@a.example invites you to a.example" in text
    assert f"href='xmpp:ann@a.example?roster;preauth={made['invite']};ibr=y'" in text
    assert "<svg" in text
    assert "<script" not in text
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "noindex" in headers["X-Robots-Tag"]
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"(src|url)\s*[=(]", text)
    code = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert code.find("{http://www.w3.org/2000/svg}path") is not None


async def test_s75_pages_of_tokens_that_are_no_good_look_alike(server):
    used = await invited(server, kind="account")
    body = {"username": "friend", "password": "password", "invite": used["invite"]}
    assert (await server.call("POST", "/v1/accounts", body))[0] == 201
    answers = {(await page(server, token))[:2] for token in (used["invite"], "guess", "x" * 500, "%22%3E%3Cscript%3E")}
    [(status, text)] = answers
    assert status == 410
    assert "script" not in text


async def test_s75_asking_for_pages_is_slowed(tmp_path):
    limits = with_limits(requests_per_address=Rate(3, 60))
    async with json_server(tmp_path / "data" / "p.db", accounts=INVITE, limits=limits) as server:
        assert [(await page(server, "guess"))[0] for _ in range(5)] == [410, 410, 410, 429, 429]


async def test_s75_a_token_is_not_in_the_log(server, capsys):
    made = await invited(server)
    await page(server, made["invite"])
    said = "".join(capsys.readouterr())
    assert "/invite/{token}" in said
    assert made["invite"] not in said


async def test_a_link_sets_a_password(server):
    token = await server.token("ann")
    status, made = await server.call("POST", "/v1/admin/users/ann@a.example/password-reset", by="boss")
    assert status == 201
    reset = made["url"].rpartition("/")[2]
    status, text, headers = await page(server, reset)
    assert (status, "ann@a.example" in text, "<form method='post'" in text) == (200, True, True)
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    wrong = {"password": "correct horse", "again": "another horse"}
    assert (await page(server, reset, wrong))[0] == 422
    assert (await page(server, reset, {"password": "short", "again": "short"}))[0] == 422
    status, _, _ = await page(server, reset, {"password": "correct horse", "again": "correct horse"})
    assert status == 200
    assert (await page(server, reset, {"password": "correct horse", "again": "correct horse"}))[0] == 410
    login = {"username": "ann", "password": "correct horse"}
    assert (await server.call("POST", "/v1/sessions", login))[0] == 201
    assert (await server.call("GET", "/v1/account", headers={"Authorization": f"Bearer {token}"}))[0] == 401


async def test_other_invitations_set_no_password(server):
    made = await invited(server)
    both = {"password": "correct horse", "again": "correct horse"}
    assert (await page(server, made["invite"], both))[0] == 410
    async with server.http.post(f"{server.url}/invite/{made['invite']}", json=both) as answer:
        assert answer.status == 410


async def test_the_directory(server):
    await server.accounts.register("anna", "a.example", "password", admin=True)
    status, found = await server.call("GET", "/v1/users?query=an", by="ann")
    assert (status, [one["jid"] for one in found["users"]]) == (200, ["ann@a.example", "anna@a.example"])
    assert (await server.call("GET", "/v1/users?query=a", by="ann"))[1] == {"users": []}
    assert (await server.call("GET", "/v1/users?query=an", by="gus"))[0] == 403
    assert (await server.call("GET", "/v1/users?query=an"))[0] == 401


async def test_no_directory_where_nobody_wants_one(tmp_path):
    async with json_server(tmp_path / "data" / "p.db") as server:
        assert (await server.call("GET", "/v1/users?query=an", by="ann"))[0] == 403


async def test_a_guest_writes_to_this_server_only(server):
    body = {"to": "romeo@far.example", "text": "hello", "client_id": "1"}
    status, problem = await server.call("POST", "/v1/messages", body, by="gus")
    assert (status, problem["type"]) == (403, "urn:parley:problem:not-allowed")
    assert server.outbox.told() == []
    assert (await server.call("POST", "/v1/messages", body | {"to": "ann@a.example"}, by="gus"))[0] == 201
