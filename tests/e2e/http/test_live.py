"""The WebSocket: the gap first, then live, each message once; acks, resumption, presence, back-pressure, ends."""

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from client_api.http.live import PAGE
from tests.kit.json_server import FREE, json_server


async def test_live_messages_of_both_sides(server):
    async with server.socket("bob") as bob, server.socket("alice") as alice:
        await bob.take("synced")
        await alice.send({"type": "send", "client_id": "c1", "to": "bob@a.example", "text": "hi"})
        sent = await alice.take("sent")
        got = await bob.take("message")
    assert got["position"] == got["event"]["id"] == sent["message_id"]
    assert (got["event"]["text"], got["event"]["client_id"]) == ("hi", "c1")


async def test_own_other_devices_get_a_copy(server):
    await server.token("bob")
    other = await server.another_device("alice")
    async with server.socket("alice", token=other["access_token"]) as desk:
        await desk.take("synced")
        await server.send("alice", "bob@a.example", "from the phone", "c1")
        got = await desk.take("message")
    assert (got["event"]["direction"], got["event"]["conversation"]) == ("outgoing", "bob@a.example")


async def test_what_was_missed_comes_first_and_once(server):
    await server.token("bob")
    for number in range(PAGE * 2 + 5):
        await server.send("alice", "bob@a.example", str(number), f"c{number}")
    async with server.socket("bob") as bob:
        running = asyncio.create_task(_send_many(server, range(PAGE * 2 + 5, PAGE * 2 + 45)))
        texts = await bob.texts(PAGE * 2 + 45)
        await running
    assert texts == [str(number) for number in range(PAGE * 2 + 45)]


async def _send_many(server, numbers):
    for number in numbers:
        await server.send("alice", "bob@a.example", str(number), f"c{number}")


async def test_messages_sent_while_a_client_reconnects_again_and_again(server):
    await server.token("bob")
    running = asyncio.create_task(_send_many(server, range(150)))
    seen, cursor = [], 0
    while len(seen) < 150:
        async with server.socket("bob", cursor=cursor) as bob:
            for _ in range(min(17, 150 - len(seen))):
                frame = await bob.take("message")
                seen.append(frame["event"]["text"])
                cursor = frame["position"]
    await running
    assert seen == [str(number) for number in range(150)]


async def test_the_position_of_a_device_is_kept_over_a_restart(tmp_path):
    path = tmp_path / "data" / "parley.db"
    async with json_server(path) as server:
        grant = await server.another_device("bob")
        async with server.socket("bob", token=grant["access_token"]) as bob:
            for number in range(3):
                await server.send("alice", "bob@a.example", str(number), f"c{number}")
            frames = [await bob.take("message") for _ in range(3)]
            await bob.send({"type": "ack", "position": frames[1]["position"]})
            await bob.send({"type": "ping", "id": "p"})
            assert (await bob.take("pong"))["id"] == "p"
        while await server.tokens.position(grant["device_id"]) != frames[1]["position"]:
            await asyncio.sleep(0.01)
    async with json_server(path) as server, server.socket("bob", token=grant["access_token"]) as bob:
        assert bob.ready["cursor"] == frames[1]["position"]
        assert await bob.texts(1) == ["2"]
        assert (await bob.take("synced"))["position"] == frames[2]["position"]


async def test_an_ack_settles_what_waits_for_the_account(server):
    await server.token("bob")
    sent = await server.send("alice", "bob@a.example", "hi", "c1")
    account = await server.accounts.find("bob@a.example")
    assert [entry.id for entry in await server.mailboxes.pending(account, 10)] == [sent]
    async with server.socket("bob") as bob:
        frame = await bob.take("message")
        await bob.send({"type": "ack", "position": frame["position"]})
        await bob.send({"type": "ping"})
        await bob.take("pong")
        assert await server.mailboxes.settled(account) == sent


async def test_a_client_that_does_not_read_catches_up_from_the_mailbox(tmp_path):
    limits = replace(FREE, unsent_bytes=65_536)
    async with json_server(tmp_path / "data" / "parley.db", limits=limits) as server:
        await server.token("bob")
        async with server.socket("bob") as bob:
            await bob.take("synced")
            (session,) = server.sessions.of("bob@a.example")
            text = "x" * 20_000
            for number in range(120):
                await server.send("alice", "bob@a.example", f"{number} {text}", f"c{number}")
            assert session._bytes < 65_536 + 2 * PAGE * 25_000
            assert [found.split(" ")[0] for found in await bob.texts(120)] == [str(number) for number in range(120)]


async def test_refused_messages_say_which(server):
    async with server.socket("alice") as alice:
        await alice.send({"type": "send", "client_id": "c1", "to": "nobody@a.example", "text": "hi"})
        error = await alice.take("error")
        assert (error["client_id"], error["problem"]["status"]) == ("c1", 404)
        await alice.send({"type": "ping"})
        await alice.take("pong")


async def test_order_and_idempotency_on_the_socket(server):
    async with server.socket("bob") as bob, server.socket("alice") as alice:
        for number in range(100):
            for _ in range(2):
                await alice.send(
                    {"type": "send", "client_id": f"c{number}", "to": "bob@a.example", "text": str(number)}
                )
        answers = [await alice.take("sent") for _ in range(200)]
        assert len({answer["message_id"] for answer in answers}) == 100
        assert await bob.texts(100) == [str(number) for number in range(100)]


async def test_presence_between_contacts(server):
    for name in ("alice", "bob"):
        await server.token(name)
    alice, bob = [await server.accounts.find(f"{name}@a.example") for name in ("alice", "bob")]
    for asker, asked in ((alice, bob), (bob, alice)):
        await server.contacts.request(asker, asked.jid)
        await server.contacts.accept(asked, asker.jid)
    async with server.socket("bob") as watching:
        async with server.socket("alice") as shown:
            while (frame := await watching.take("presence"))["from"].startswith("bob@"):
                pass
            assert (frame["from"], frame["available"]) == (shown.ready["jid"], True)
            await shown.send({"type": "presence", "available": True, "show": "away", "status": "lunch"})
            frame = await watching.take("presence")
            assert (frame["show"], frame["status"]) == ("away", "lunch")
            _, listed = await server.call("GET", "/v1/presence", by="bob")
            assert shown.ready["jid"] in {found["from"] for found in listed["presence"]}
            status, _ = await server.call("PUT", "/v1/presence", {"available": False}, by="alice")
            assert status == 204
            assert (await watching.take("presence"))["available"] is False
            await server.send("bob", "alice@a.example", "still there?", "c1")
            assert await shown.texts(1) == ["still there?"]
            await shown.send({"type": "presence", "available": True})
            assert (await watching.take("presence"))["available"] is True
        assert (await watching.take("presence"))["available"] is False
    assert (await server.call("PUT", "/v1/presence", {"available": True}, by="alice"))[0] == 409


async def test_a_newer_socket_of_the_device_replaces_the_older(server):
    async with server.socket("bob") as first, server.socket("bob"):
        assert await first.closed() == 4409


@pytest.mark.parametrize("ending", ["logout", "password", "disable"])
async def test_sockets_end_with_their_tokens(server, ending):
    await server.token("bob")
    async with server.socket("bob") as bob:
        if ending == "logout":
            await server.call("DELETE", "/v1/sessions/current", by="bob")
        elif ending == "disable":
            await server.accounts.disable("bob@a.example")
        else:
            other = await server.another_device("bob")
            headers = {"Authorization": f"Bearer {other['access_token']}"}
            body = {"password": "password", "new_password": "new password"}
            assert (await server.call("PUT", "/v1/account/password", body, headers=headers))[0] == 200
        assert await bob.closed() == 4401
        assert not server.sessions.of("bob@a.example")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type":"auth","access_token":"x"}', 4401),
        ('{"type":"auth"}', 4400),
        ("{", 4400),
        ('{"type":"ping"}', 4400),
        (b"\x00", 4400),
    ],
)
async def test_first_frames_that_are_refused(server, frame, code):
    async with server.http.ws_connect(server.url + "/v1/ws") as raw:
        await (raw.send_bytes(frame) if isinstance(frame, bytes) else raw.send_str(frame))
        message = await raw.receive(timeout=10)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == code


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        '{"type":"none"}',
        '{"type":"ack","position":-1}',
        '{"type":"ack","position":9007199254740991}',
        '{"type":"ping","id":1}',
        '{"type":"ping","type":"ping"}',
        '{"type":"presence","available":true,"status":"\\u0001"}',
    ],
)
async def test_frames_that_end_the_socket(server, frame):
    async with server.socket("bob") as bob:
        await bob.raw.send_str(frame)
        assert await bob.closed() == 4400


async def test_a_frame_above_the_limit_ends_the_socket(server):
    async with server.socket("bob") as bob:
        await bob.raw.send_str('{"type":"ping","id":"' + "x" * 300_000 + '"}')
        assert await bob.closed() == 1009


async def test_foreign_web_pages_may_not_connect(server):
    for origin in ("https://evil.example", "null"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await server.http.ws_connect(server.url + "/v1/ws", origin=origin)
        assert refused.value.status == 403


async def test_the_token_in_a_header(server):
    headers = {"Authorization": f"Bearer {await server.token('bob')}"}
    async with server.http.ws_connect(server.url + "/v1/ws?cursor=0", headers=headers) as raw:
        assert (await raw.receive_json(timeout=10))["type"] == "ready"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await server.http.ws_connect(server.url + "/v1/ws", headers={"Authorization": "Bearer x"})
    assert refused.value.status == 401


async def test_a_plain_request_is_told_to_upgrade(server):
    status, problem = await server.call("GET", "/v1/ws")
    assert (status, problem["type"]) == (426, "urn:parley:problem:upgrade-required")


async def test_ready_is_the_first_frame_also_when_a_socket_is_replaced(server):
    token = await server.token("alice")
    for _ in range(3):
        async with server.socket("alice") as old:
            await old.take("synced")
            async with server.http.ws_connect(server.url + "/v1/ws") as raw:
                await raw.send_json({"type": "auth", "access_token": token})
                assert (await raw.receive_json(timeout=10))["type"] == "ready"
            assert await old.closed() == 4409
