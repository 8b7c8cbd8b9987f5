"""What is said beside messages on the socket: typing, receipts, read markers, client state, last seen."""

import pytest

from homeserver.protocol.jid import JID
from tests.kit.fakes import stanza


async def befriend(server, one, other):
    """Two accounts see each other."""
    await server.token(one)
    await server.token(other)
    for asker, asked in ((one, other), (other, one)):
        assert (await server.call("POST", f"/v1/contacts/{asked}@a.example/request", {}, by=asker))[0] == 204
        assert (await server.call("POST", f"/v1/contacts/{asker}@a.example/accept", by=asked))[0] == 204


async def ask_for_receipt(server, by, to, client_id):
    body = {"to": to, "text": "hi", "client_id": client_id, "receipt": True}
    status, made = await server.call("POST", "/v1/messages", body, by=by)
    assert status == 201
    return made["message_id"]


async def test_typing(server):
    async with server.socket("alice") as alice, server.socket("bob") as bob:
        await bob.take("synced")
        await alice.send({"type": "typing", "to": "bob@a.example"})
        frame = await bob.take("typing", "ephemeral", "message")
        assert frame == {
            "type": "typing",
            "conversation": "alice@a.example",
            "from": alice.ready["jid"],
            "state": "composing",
        }
        await alice.send({"type": "typing", "to": "bob@a.example", "state": "paused"})
        assert (await bob.take("typing"))["state"] == "paused"
        await alice.send({"type": "typing", "to": "nobody@a.example"})
        assert (await alice.take("error"))["problem"]["status"] == 404
        await alice.send({"type": "ping"})
        await alice.take("pong")
    assert (await server.call("GET", "/v1/sync", by="bob"))[1]["events"] == []


async def test_an_ephemeral_message_with_a_chat_state_and_more_stays_one(server):
    async with server.socket("alice") as alice, server.socket("bob") as bob:
        await bob.take("synced")
        xml = ["<composing xmlns='http://jabber.org/protocol/chatstates'/>", "<no-store xmlns='urn:xmpp:hints'/>"]
        await alice.send({"type": "send", "to": "bob@a.example", "client_id": "1", "text": "psst", "xml": xml})
        assert (await bob.take("typing", "ephemeral"))["event"]["text"] == "psst"


async def test_a_receipt_is_sent_when_the_client_has_the_message(server):
    await befriend(server, "alice", "bob")
    async with server.socket("alice") as alice, server.socket("bob") as bob:
        await bob.take("synced")
        await alice.take("synced")
        await ask_for_receipt(server, "alice", "bob@a.example", "c1")
        position = (await bob.take("message"))["position"]
        await bob.send({"type": "ack", "position": position})
        receipt = (await alice.take("message"))["event"]
        while "delivered" not in receipt:
            receipt = (await alice.take("message"))["event"]
        assert (receipt["delivered"], receipt["conversation"]) == ("c1", "bob@a.example")


@pytest.mark.parametrize("waiting", [False, True])
async def test_one_receipt_for_two_devices(server, waiting):
    await befriend(server, "alice", "bob")
    second = await server.another_device("bob")
    if waiting:
        await ask_for_receipt(server, "alice", "bob@a.example", "c1")
    async with server.socket("bob") as phone, server.socket("bob", token=second["access_token"]) as desk:
        if not waiting:
            await phone.take("synced")
            await desk.take("synced")
            await ask_for_receipt(server, "alice", "bob@a.example", "c1")
        for socket in (phone, desk):
            await socket.send({"type": "ack", "position": (await socket.take("message"))["position"]})
            await socket.send({"type": "ping"})
            await socket.take("pong")
        last = await ask_for_receipt(server, "alice", "bob@a.example", "c2")
        for socket in (phone, desk):
            await socket.send({"type": "ack", "position": last})
    async with server.socket("alice", cursor=0) as alice:
        given = []
        while "c2" not in given:
            event = (await alice.take("message"))["event"]
            if "delivered" in event:
                given.append(event["delivered"])
    assert given == ["c1", "c2"]


async def test_no_receipt_for_those_who_may_not_see_the_account(server):
    await befriend(server, "alice", "bob")
    async with server.socket("bob") as bob:
        await bob.take("synced")
        await ask_for_receipt(server, "carl", "bob@a.example", "s1")
        last = await ask_for_receipt(server, "alice", "bob@a.example", "c1")
        while (await bob.take("message"))["position"] != last:
            pass
        await bob.send({"type": "ack", "position": last})
        async with server.socket("alice", cursor=0) as alice:
            while "delivered" not in (await alice.take("message"))["event"]:
                pass
    _, page = await server.call("GET", "/v1/sync", by="carl")
    assert [event["event"]["direction"] for event in page["events"]] == ["outgoing"]


async def test_what_was_settled_before_is_not_confirmed_again(server):
    await befriend(server, "alice", "bob")
    async with server.socket("bob") as bob:
        await bob.take("synced")
        first = await ask_for_receipt(server, "alice", "bob@a.example", "c1")
        await bob.take("message")
        await bob.send({"type": "ack", "position": first})
        async with server.socket("alice", cursor=0) as alice:
            while "delivered" not in (await alice.take("message"))["event"]:
                pass
    server.live._services.receipts._newest.clear()
    async with server.socket("bob", cursor=0) as bob:
        await bob.take("message")
        await bob.take("synced")
        await bob.send({"type": "ack", "position": first})
        second = await ask_for_receipt(server, "alice", "bob@a.example", "c2")
        await bob.send({"type": "ping"})
        while (await bob.take("message"))["position"] != second:
            pass
        await bob.send({"type": "ack", "position": second})
        async with server.socket("alice", cursor=0) as alice:
            given = []
            while "c2" not in given:
                event = (await alice.take("message"))["event"]
                given += [event["delivered"]] if "delivered" in event else []
    assert given == ["c1", "c2"]


async def test_reading_tells_the_sender_who_asked(server):
    await server.token("bob")
    body = {"to": "bob@a.example", "text": "hi", "client_id": "c1", "receipt": True}
    _, sent = await server.call("POST", "/v1/messages", body, by="alice")
    async with server.socket("alice") as alice:
        await alice.take("synced")
        path = "/v1/conversations/alice@a.example/read"
        assert (await server.call("POST", path, {"message_id": sent["message_id"]}, by="bob"))[0] == 200
        event = (await alice.take("message"))["event"]
    assert (event["displayed"], event["direction"]) == ("c1", "incoming")


async def test_an_inactive_client_is_told_of_presence_later(server):
    await befriend(server, "alice", "bob")
    async with server.socket("alice") as alice:
        await alice.take("synced")
        await alice.send({"type": "state", "active": False})
        await alice.send({"type": "ping"})
        await alice.take("pong")
        async with server.socket("bob") as bob:
            await bob.send({"type": "typing", "to": "alice@a.example"})
            await bob.send({"type": "presence", "available": True, "status": "here"})
            await bob.send({"type": "ping"})
            await bob.take("pong")
            await server.send("bob", "alice@a.example", "hello", "m1")
            assert (await alice.take("message", "typing", "presence"))["type"] == "message"
            await alice.send({"type": "state", "active": True})
            frame = await alice.take("presence", "typing")
            assert (frame["from"], frame["status"]) == (bob.ready["jid"], "here")
            await bob.send({"type": "typing", "to": "alice@a.example"})
            assert (await alice.take("presence", "typing"))["type"] == "typing"


async def test_last_seen(server):
    await befriend(server, "alice", "bob")

    async def shown():
        _, found = await server.call("GET", "/v1/presence", by="alice")
        return [one for one in found["presence"] if one["from"] == "bob@a.example"]

    assert await shown() == []
    async with server.socket("bob") as bob:
        await bob.take("synced")
    while not (found := await shown()):
        pass
    assert found[0]["available"] is False
    assert found[0]["last_seen"].endswith("Z")
    assert (await server.call("PUT", "/v1/privacy", {"strangers": None, "last_seen": "nobody"}, by="bob"))[0] == 204
    assert await shown() == []
    assert (await server.call("PUT", "/v1/privacy", {"strangers": "mark"}, by="bob"))[0] == 204
    _, chosen = await server.call("GET", "/v1/privacy", by="bob")
    assert chosen == {"strangers": "mark", "last_seen": "nobody"}
    assert (await server.call("PUT", "/v1/privacy", {"strangers": None, "last_seen": "contacts"}, by="bob"))[0] == 204
    assert len(await shown()) == 1
    assert (await server.call("DELETE", "/v1/contacts/alice@a.example", by="bob"))[0] == 204
    assert await shown() == []


async def test_contacts_elsewhere_say_since_when_they_are_away(server):
    assert (await server.call("POST", "/v1/contacts/eve@far.example/request", {}, by="alice"))[0] == 204
    account = await server.accounts.find("alice@a.example")
    stamp = "2026-01-02T03:04:05Z"
    async with server.socket("alice") as alice:
        await alice.take("presence")
        server.presence.received(account, probe_answer(stamp))
        frame = await alice.take("presence")
        while not frame["from"].startswith("eve@"):
            frame = await alice.take("presence")
        assert (frame["available"], frame["last_seen"]) == (False, stamp)
        _, found = await server.call("GET", "/v1/presence", by="alice")
        assert {"from": "eve@far.example", "last_seen": stamp}.items() <= found["presence"][-1].items()


def probe_answer(stamp):
    return stanza(
        f"<presence type='unavailable' to='alice@a.example'><delay xmlns='urn:xmpp:delay' stamp='{stamp}'/></presence>",
        JID.parse("eve@far.example"),
    )
