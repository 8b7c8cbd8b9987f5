"""Contacts over JSON: the list, requests, invitations, and what is told live."""

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import child, text_of


async def test_the_list(server):
    await server.token("bob")
    assert await server.call("GET", "/v1/contacts", by="alice") == (200, {"contacts": []})
    wanted = {"jid": "Bob@a.example", "name": "Bob", "groups": ["work"]}
    bob = {
        "jid": "bob@a.example",
        "name": "Bob",
        "groups": ["work"],
        "subscription": "none",
        "asking": False,
        "asked": False,
    }
    assert await server.call("POST", "/v1/contacts", wanted, by="alice") == (201, bob)
    assert await server.call("GET", "/v1/contacts", by="alice") == (200, {"contacts": [bob]})
    bob |= {"name": "Robert", "groups": []}
    assert await server.call("PUT", "/v1/contacts/bob@a.example", {"name": "Robert"}, by="alice") == (200, bob)
    assert await server.call("GET", "/v1/contacts/bob@a.example", by="alice") == (200, bob)
    assert (await server.call("DELETE", "/v1/contacts/bob@a.example", by="alice"))[0] == 204
    assert (await server.call("DELETE", "/v1/contacts/bob@a.example", by="alice"))[0] == 404
    assert (await server.call("GET", "/v1/contacts/bob@a.example", by="alice"))[0] == 404


async def test_a_contact_by_its_number(server):
    await server.token("bob")
    _, account = await server.call("GET", "/v1/account", by="bob")
    status, made = await server.call("POST", "/v1/contacts", {"jid": account["user_id"]}, by="alice")
    assert (status, made["jid"]) == (201, "bob@a.example")
    status, made = await server.call("PUT", f"/v1/contacts/{account['user_id']}", {"name": "B"}, by="alice")
    assert (status, made["jid"], made["name"]) == (200, "bob@a.example", "B")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"jid": "alice@a.example"}, 403),
        ({"jid": "@"}, 400),
        ({"jid": 99_999}, 404),
        ({"jid": "bob@a.example", "groups": [""]}, 400),
        ({"jid": "bob@a.example", "groups": ["a", "a"]}, 400),
        ({"jid": "bob@a.example", "name": "\x01"}, 400),
        ({"jid": "bob@a.example", "name": "x" * 1024}, 422),
        ({"jid": "bob@a.example", "groups": [str(number) for number in range(65)]}, 422),
        ({"jid": "bob@a.example", "subscription": "both"}, 400),
    ],
)
async def test_what_is_no_contact(server, body, status):
    assert (await server.call("POST", "/v1/contacts", body, by="alice"))[0] == status


async def test_a_request_is_shown_and_accepted(server):
    await server.token("alice")
    async with server.socket("bob") as bob, server.socket("alice") as alice:
        await bob.take("presence")
        body = {"text": "It is me"}
        assert (await server.call("POST", "/v1/contacts/bob@a.example/request", body, by="alice"))[0] == 204
        assert (await alice.take("contact"))["contact"]["asking"] is True
        frame = await bob.take("contact_request")
        assert frame == {"type": "contact_request", "from": "alice@a.example", "text": "It is me"}
        waiting = {"requests": [{"jid": "alice@a.example", "text": "It is me"}]}
        assert await server.call("GET", "/v1/contacts/requests", by="bob") == (200, waiting)
        assert await server.call("GET", "/v1/contacts", by="bob") == (200, {"contacts": []})
        assert (await server.call("POST", "/v1/contacts/alice@a.example/accept", by="bob"))[0] == 204
        made = (await alice.take("contact"))["contact"]
        assert (made["jid"], made["subscription"], made["asking"]) == ("bob@a.example", "to", False)
        assert (await bob.take("contact"))["contact"]["subscription"] == "from"
        assert await bob.take("contact_request") == {
            "type": "contact_request",
            "from": "alice@a.example",
            "open": False,
        }
        shown = await alice.take("presence")
        while not shown["from"].startswith("bob@"):
            shown = await alice.take("presence")
        assert shown["available"]
        assert (await server.call("DELETE", "/v1/contacts/bob@a.example", by="alice"))[0] == 204
        assert await alice.take("contact_removed") == {"type": "contact_removed", "jid": "bob@a.example"}
    assert await server.call("GET", "/v1/contacts/requests", by="bob") == (200, {"requests": []})
    assert (await server.call("POST", "/v1/contacts/alice@a.example/accept", by="bob"))[0] == 404


async def test_a_request_is_declined(server):
    await server.token("bob")
    assert (await server.call("POST", "/v1/contacts/bob@a.example/request", {}, by="alice"))[0] == 204
    assert (await server.call("POST", "/v1/contacts/alice@a.example/decline", by="bob"))[0] == 204
    _, found = await server.call("GET", "/v1/contacts/bob@a.example", by="alice")
    assert (found["subscription"], found["asking"]) == ("none", False)
    assert (await server.call("POST", "/v1/contacts/alice@a.example/decline", by="bob"))[0] == 404


async def test_who_shows_itself_to_nobody_hears_of_requests_too(server):
    token = await server.token("bob")
    async with server.http.ws_connect(server.url + "/v1/ws") as raw:
        await raw.send_json({"type": "auth", "access_token": token, "presence": False})
        while (await raw.receive_json(timeout=10))["type"] != "synced":
            pass
        assert (await server.call("POST", "/v1/contacts/bob@a.example/request", {}, by="alice"))[0] == 204
        assert await raw.receive_json(timeout=10) == {"type": "contact_request", "from": "alice@a.example"}


async def test_an_invitation_makes_two_contacts_at_once(server):
    _, invite = await server.call("POST", "/v1/invites", {"kind": "contact"}, by="bob")
    body = {"invite": invite["invite"]}
    assert (await server.call("POST", "/v1/contacts/bob@a.example/request", body, by="alice"))[0] == 204
    for owner, peer in (("alice", "bob"), ("bob", "alice")):
        _, found = await server.call("GET", f"/v1/contacts/{peer}@a.example", by=owner)
        assert found["subscription"] == "both"
    assert (await server.call("POST", "/v1/contacts/bob@a.example/request", body, by="carl"))[0] == 204
    _, found = await server.call("GET", "/v1/contacts/bob@a.example", by="carl")
    assert (found["subscription"], found["asking"]) == ("none", True)


async def test_whom_the_account_blocks_is_not_asked(server):
    await server.token("bob")
    await server.call("POST", "/v1/blocks", {"address": "bob@a.example"}, by="alice")
    status, problem = await server.call("POST", "/v1/contacts/bob@a.example/request", {}, by="alice")
    assert (status, problem["type"]) == (403, "urn:parley:problem:blocked")


async def test_a_request_for_another_server(server):
    status, _ = await server.call(
        "POST", "/v1/contacts/eve@far.example/request", {"text": "hi", "invite": "T1"}, by="alice"
    )
    assert status == 204
    ((destination, sent),) = server.outbox.durable
    assert (destination, sent.get("type"), sent.get("to")) == ("far.example", "subscribe", "eve@far.example")
    assert text_of(sent, ns.CLIENT, "status") == "hi"
    token = child(sent, ns.PRE_AUTHENTICATION, "preauth")
    assert token is not None
    assert token.get("token") == "T1"
