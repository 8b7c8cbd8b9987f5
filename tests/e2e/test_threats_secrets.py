"""What a node writes down, and for whom: S-165 to S-167."""

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode, MakePair
from tests.e2e.test_threats_http import session
from tests.kit.client_stream import LoginFailed, RawClient
from tests.kit.node import HOST, ParleyServer
from tests.kit.wire import header, wire

LINES = 10**6


async def posted(http: aiohttp.ClientSession, path: str, body: Any, method: str = "POST", **headers: str) -> Any:
    """Status and decoded answer of one call."""
    async with http.request(method, path, json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None) if await answer.read() else None


async def logins_of_every_kind(node: ParleyServer, planted: dict[str, str]) -> None:
    """Use the node as clients do, rightly and wrongly, and put every secret that is passed into ``planted``."""
    ann, bob = node.accounts
    planted |= {"password of ann": ann.password, "password of bob": bob.password}
    planted["bytes of PLAIN"] = base64.b64encode(f"\0{ann.local}\0{ann.password}".encode()).decode()
    planted["wrong password"] = "canary-wrong-3f9a1c"
    planted["new password"] = "canary-new-77b210"
    planted["registered password"] = "canary-ibr-5d0e44"
    planted["body"] = "canary-body-9e8d7c"
    for name, password in ((ann.local, ann.password), (ann.local, planted["wrong password"])):
        for mechanism in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            client = RawClient(HOST, node.ports.xmpp, node.domain)
            try:
                await client.login(name, password, mechanism=mechanism)
                await client.send(f"<message to='{bob.jid}'><body>{planted['body']}</body></message>")
                await client.request("get", f"<ping xmlns='{ns.PING}'/>", node.domain)
            except LoginFailed:
                assert password == planted["wrong password"]
            finally:
                client.abort()
    async with wire(node.endpoint) as peer:
        await peer.send(header(node.domain))
        await peer.until(b"</stream:features>")
        await peer.send(
            f"<iq type='set' id='r'><query xmlns='{ns.REGISTER}'><username>carla</username>"
            f"<password>{planted['registered password']}</password></query></iq>".encode()
        )
        assert b"result" in await peer.until(b"result", b"</iq>")
    async with session(node) as http:
        status, grant = await posted(http, "/v1/sessions", {"username": ann.local, "password": ann.password})
        assert status == 201
        planted |= {"access token": grant["access_token"], "refresh token": grant["refresh_token"]}
        await posted(http, "/v1/sessions", {"username": ann.local, "password": planted["wrong password"]})
        # broken bodies, whose content must not be part of a complaint in the log
        await posted(http, "/v1/sessions", {"username": ann.local, "password": planted["wrong password"], "more": 1})
        await posted(http, "/v1/sessions", {"username": 1, "password": [planted["wrong password"]]})
        status, grant = await posted(http, "/v1/sessions/refresh", {"refresh_token": grant["refresh_token"]})
        assert status == 200
        planted |= {"second access token": grant["access_token"], "second refresh token": grant["refresh_token"]}
        bearer = {"Authorization": f"Bearer {grant['access_token']}"}
        async with http.ws_connect("/v1/ws") as socket:
            await socket.send_json({"type": "auth", "access_token": grant["access_token"]})
            assert (await socket.receive_json())["type"] == "ready"
            await socket.send_json({"type": "send", "client_id": "1", "to": bob.jid, "text": planted["body"]})
        change = {"password": ann.password, "new_password": planted["new password"]}
        status, grant = await posted(http, "/v1/account/password", change, "PUT", **bearer)
        assert status == 200
        planted |= {"third access token": grant["access_token"], "third refresh token": grant["refresh_token"]}
        # a refresh token that is used twice is told to the operator
        await posted(http, "/v1/sessions/refresh", {"refresh_token": planted["second refresh token"]})
        await posted(http, "/v1/account", None, "GET", Authorization=f"Bearer {planted['access token']}x")


async def test_s165_no_secret_is_in_logs_metrics_or_the_process_list(make_pair: MakePair) -> None:
    extra = {"log": {"level": "debug", "format": "json"}, "accounts": {"registration": "open"}}
    one, two = make_pair(["ann", "bob"], extra=extra)
    await one.start()
    await two.start()
    planted: dict[str, str] = {}
    await logins_of_every_kind(one, planted)
    # federation signs
    client = RawClient(HOST, one.ports.xmpp, one.domain)
    await client.login("bob", "secret-bob")
    await client.send(f"<message to='bob@{two.domain}' type='chat'><body>{planted['body']}</body></message>")
    other = RawClient(HOST, two.ports.xmpp, two.domain)
    await other.login("bob", "secret-bob")
    await other.send("<presence/>")
    await other.expect(lambda e: e.findtext(f"{{{ns.CLIENT}}}body") == planted["body"], 30)
    for number, path in enumerate(sorted((one.data / "keys").glob("*.json"))):
        for place, key in enumerate(json.loads(path.read_text())["keys"]):
            planted[f"signing key {number}.{place}"] = key["seed"]
    planted["password on the command line"] = "canary-cli-1b2c3d"
    said = await one.run_command(
        "account", "password", "bob@" + one.domain, "--password-stdin", stdin=planted["password on the command line"]
    )
    assert planted["password on the command line"] not in said
    process = Path("/proc") / str(one.pid)
    places = {
        "arguments": (process / "cmdline").read_text(),
        "environment": (process / "environ").read_text(),
    }
    async with session(one) as http, http.get("/metrics") as answer:
        places["metrics"] = await answer.text()
    for stream in (client, other):
        stream.abort()
    for node in (one, two):
        await node.stop()
        places[f"log of {node.domain}"] = node.log_tail(LINES)
    assert len(planted) >= 12
    assert all(len(secret) >= 8 for secret in planted.values())
    assert len(places["log of one.example"].splitlines()) > 20
    found = [(what, where) for what, secret in planted.items() for where, text in places.items() if secret in text]
    assert found == []


HOSTILE = (
    "a\r\n{\"event\":\"forged\"}", "a\x1b[2J\x1b]0;owned\x07", "a\x00b", "x" * 5000, "\u202egnp.exe", "%s%n{0}",
    "a\u2028b\x85c",
)  # fmt: skip


async def test_s166_a_log_line_is_one_event_whatever_peers_say(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"log": {"level": "debug", "format": "json"}})
    await node.start()
    async with session(node) as http:
        for text in HOSTILE:
            await posted(http, "/v1/sessions", {"username": text, "password": "wrong horse", "device": {"name": text}})
            await posted(http, "/v1/accounts", {"username": text, "password": "wrong horse"})
            quoted = "".join(f"%{byte:02x}" for byte in text[:1000].encode())
            await posted(http, f"/v1/{quoted}", None, "GET", **{"User-Agent": "a\tb" + "x" * 4000})
    for text in HOSTILE:
        async with wire(node.endpoint) as peer:
            await peer.send(header(node.domain))
            await peer.until(b"</stream:features>")
            first = base64.b64encode(f"\0{text}\0wrong horse".encode()).decode()
            await peer.send(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{first}</auth>".encode())
            await peer.until(b"</failure>", b"</stream:stream>")
    await node.stop()
    lines = node.log_tail(LINES).splitlines()
    assert len(lines) > 20
    for line in lines:
        assert line.isprintable(), repr(line[:200])
        record = json.loads(line)
        assert record["event"] != "forged"
        assert all(len(value) <= 16_384 if name == "exception" else len(value) <= 256
                   for name, value in record.items() if isinstance(value, str)), line[:200]  # fmt: skip


async def test_s167_files_are_for_the_server_alone(make_pair: MakePair) -> None:
    before = os.umask(0)
    try:
        one, two = make_pair(["ann"])
        await one.start()
        await two.start()
        client = RawClient(HOST, one.ports.xmpp, one.domain)
        await client.login("ann", "secret-ann")
        await client.send(f"<message to='ann@{two.domain}' type='chat'><body>x</body></message>")
        await client.enable()
        assert await client.handled() >= 0
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (one.data, *one.data.rglob("*"))}
    assert {path.name for path in modes} >= {"parley.db", "keys", "one.example.json"}
    open_to_others = {str(path.relative_to(one.data)): oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert open_to_others == {}
    assert [path for path, mode in modes.items() if path.is_file() and mode & 0o111] == []
    client.abort()


@pytest.mark.parametrize("which", ["signing key", "TLS key"])
async def test_s167_a_key_that_others_can_read_is_not_used(make_pair: MakePair, which: str) -> None:
    node, _ = make_pair(["ann"])
    await node.start()
    await node.stop()
    path = node.data / "keys" / "one.example.json" if which == "signing key" else node.certificate[1]
    path.chmod(0o644)
    with pytest.raises(RuntimeError) as refused:
        await node.start()
    text = str(refused.value)
    assert str(path) in text
    assert "chmod" in text
    assert "Traceback" not in text
    path.chmod(0o600)
    await node.start()
