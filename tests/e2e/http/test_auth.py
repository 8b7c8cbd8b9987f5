"""Accounts and logins over JSON: policy, limits, equal refusals, the aliases of the design documents."""

from dataclasses import replace

import pytest

from config.units import Rate
from tests.kit.json_server import OPEN, json_server, with_limits


async def test_register_login_use_refresh_logout(server):
    status, made = await server.call("POST", "/v1/accounts", {"username": "alice", "password": "correct horse"})
    assert (status, made) == (201, {"user_id": 1, "jid": "alice@a.example", "role": "member"})
    login = {"username": "alice@a.example", "password": "correct horse", "device": {"name": "phone"}}
    status, grant = await server.call("POST", "/v1/sessions", login)
    assert (status, grant["token_type"], grant["expires_in"], grant["user_id"]) == (201, "Bearer", 900, 1)
    headers = {"Authorization": f"Bearer {grant['access_token']}"}
    assert (await server.call("GET", "/v1/account", headers=headers))[1]["jid"] == "alice@a.example"
    _, devices = await server.call("GET", "/v1/devices", headers=headers)
    assert [(found["name"], found["current"]) for found in devices["devices"]] == [("phone", True)]
    refresh = {"refresh_token": grant["refresh_token"]}
    status, second = await server.call("POST", "/v1/sessions/refresh", refresh)
    assert (status, second["device_id"]) == (200, grant["device_id"])
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    assert (await server.call("DELETE", "/v1/sessions/current", headers=headers))[0] == 204
    assert (await server.call("GET", "/v1/account", headers=headers))[0] == 401


async def test_the_paths_of_the_design_documents(server):
    assert await server.call("POST", "/register", {"username": "john", "password": "hello hello"}) == (
        200,
        {"success": True, "user_id": 1},
    )
    await server.call("POST", "/register", {"username": "jane", "password": "hello hello"})
    status, answer = await server.call("POST", "/login", {"username": "john", "password": "hello hello"})
    assert (status, answer["success"], answer["user_id"]) == (200, True, 1)
    headers = {"Authorization": f"Bearer {answer['token']}"}
    body = {"message": "Hello, how are you?", "recipient_id": 2}
    status, sent = await server.call("POST", "/send-message", body, headers=headers)
    assert (status, sent["success"], type(sent["message_id"])) == (200, True, int)
    _, found = await server.call("GET", "/fetch-conversations?limit=1", headers=headers)
    assert [made["conversation"] for made in found["conversations"]] == ["jane@a.example"]
    _, page = await server.call("GET", "/fetch-messages?conversation_id=2", headers=headers)
    assert [event["id"] for event in page["messages"]] == [sent["message_id"]]


async def test_refusals_do_not_tell_who_exists(server):
    await server.token("alice")
    await server.accounts.register("gone", "a.example", "password")
    await server.accounts.disable("gone@a.example")
    answers = []
    for name in ("alice", "nobody", "gone", "nobody@c.example", "@", "a b"):
        status, problem = await server.call("POST", "/v1/sessions", {"username": name, "password": "wrong horse"})
        answers.append((status, problem | {"request_id": ""}))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 401


async def test_policy_and_invitations(tmp_path):
    async with json_server(tmp_path / "data" / "p.db", accounts=replace(OPEN, registration="invite")) as server:
        await server.accounts.register("boss", "a.example", "password", admin=True)
        status, problem = await server.call("POST", "/v1/accounts", {"username": "x", "password": "password"})
        assert (status, problem["type"]) == (403, "urn:parley:problem:registration-closed")
        status, given = await server.call("POST", "/v1/invites", {}, by="boss")
        assert status == 201
        body = {"username": "friend", "password": "password", "invite": given["invite"]}
        assert (await server.call("POST", "/v1/accounts", body | {"domain": "b.example"}))[0] == 403
        assert (await server.call("POST", "/v1/accounts", body))[0] == 201
        assert (await server.call("POST", "/v1/accounts", body | {"username": "other"}))[0] == 403
        assert (await server.call("POST", "/v1/accounts", body | {"invite": "guess"}))[0] == 403


async def test_guessing_is_slowed_and_registration_too(tmp_path):
    limits = with_limits(logins_per_account=Rate(3, 60), registrations_per_address=Rate(2, 3600))
    async with json_server(tmp_path / "data" / "p.db", limits=limits) as server:
        await server.token("alice")
        wrong = {"username": "alice", "password": "wrong horse"}
        statuses = [(await server.call("POST", "/v1/sessions", wrong))[0] for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        async with server.http.post(server.url + "/v1/sessions", json=wrong) as answer:
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        made = [
            (await server.call("POST", "/register", {"username": f"u{n}", "password": "password"}))[0] for n in range(3)
        ]
        assert made == [200, 429, 429]


async def test_requests_are_counted_by_account(tmp_path):
    async with json_server(tmp_path / "d" / "p.db", limits=with_limits(requests_per_account=Rate(5, 60))) as server:
        statuses = [(await server.call("GET", "/v1/account", by="alice"))[0] for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        assert (await server.call("GET", "/v1/account", by="bob"))[0] == 200


async def test_password_change_and_deletion_need_the_password(server):
    wrong = {"password": "wrong horse", "new_password": "new password"}
    assert (await server.call("PUT", "/v1/account/password", wrong, by="alice"))[0] == 401
    short = {"password": "password", "new_password": "x"}
    assert (await server.call("PUT", "/v1/account/password", short, by="alice"))[0] == 422
    assert (await server.call("POST", "/v1/account/deletion", {"password": "wrong"}, by="alice"))[0] == 401
    assert (await server.call("POST", "/v1/account/deletion", {"password": "password"}, by="alice"))[0] == 204
    assert (await server.call("GET", "/v1/account", by="alice"))[0] == 401
    again = {"username": "alice", "password": "password"}
    assert (await server.call("POST", "/v1/accounts", again))[0] == 409


async def test_nobody_touches_the_devices_of_others(server):
    grant = await server.another_device("alice")
    foreign = await server.call("DELETE", f"/v1/devices/{grant['device_id']}", by="mallory")
    absent = await server.call("DELETE", "/v1/devices/none", by="mallory")
    assert foreign[0] == absent[0] == 404
    assert foreign[1] | {"request_id": ""} == absent[1] | {"request_id": ""}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x", "Basic YWxpY2U6cGFzc3dvcmQ=", "Bearer a.b.c"])
async def test_without_a_good_token(server, header):
    async with server.http.get(server.url + "/v1/account", headers={"Authorization": header}) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.content_type == "application/problem+json"
