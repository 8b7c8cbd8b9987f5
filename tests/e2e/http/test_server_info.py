"""What everybody may know of a server, over JSON."""

from tests.kit.json_server import json_server


async def test_contact_addresses_are_shown_without_a_login(tmp_path):
    async with json_server(tmp_path / "data" / "p.db") as server:
        status, found = await server.call("GET", "/v1/server")
        assert status == 200
        assert found == {"registration": "open", "contact_addresses": {"admin": ["xmpp:admin@a.example"]}}
