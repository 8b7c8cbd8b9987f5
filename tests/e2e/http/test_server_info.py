"""What the server says of itself to anybody."""

from tests.kit.json_server import OPEN, json_server


async def test_anybody_may_ask_and_keep_the_answer(server):
    async with server.http.get(server.url + "/v1/server") as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        found = await answer.json()
    assert found["domains"] == ["a.example", "b.example"]
    assert found["software"] == {"name": "Parley", "version": "0"}
    assert found["registration"] == "open"
    assert found["contact_addresses"] == {"admin": ["xmpp:admin@a.example"]}
    assert found["services"] == [{"kind": "pubsub", "address": "pubsub.a.example"}]
    assert found["limits"]["file_bytes"] == server.files.max_bytes
    assert found["limits"]["page"] == 100


async def test_the_policy_that_holds_now(tmp_path):
    accounts = OPEN.__class__(registration="closed", scram_iterations=4096)
    async with json_server(tmp_path / "data" / "parley.db", accounts=accounts) as server:
        _, found = await server.call("GET", "/v1/server")
    assert found["registration"] == "closed"
