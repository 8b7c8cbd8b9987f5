"""What HTTP itself must refuse: foreign hosts, foreign origins, smuggled requests, hostile JSON, slow clients."""

import asyncio
import json

import pytest

from config.settings import HttpSettings
from tests.kit.json_server import PUBLIC_URL, json_server


async def raw(server, data: bytes, timeout: float = 10) -> bytes:
    """Everything the server answers to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), timeout)
    finally:
        writer.close()


@pytest.mark.parametrize("host", ["evil.example", "a.example.evil.example", "", "169.254.169.254"])
async def test_unknown_hosts_are_misdirected(server, host):
    status, problem = await server.call("GET", "/healthz", headers={"Host": host})
    assert (status, problem["type"]) == (421, "urn:parley:problem:misdirected-request")


@pytest.mark.parametrize("host", ["a.example", "A.Example:443", "127.0.0.1:8443", "a.example."])
async def test_our_hosts_are_served(server, host):
    async with server.http.get(server.url + "/healthz", headers={"Host": host}) as answer:
        assert answer.status == 200


async def test_only_listed_origins_are_let_in(tmp_path):
    settings = HttpSettings(public_url=PUBLIC_URL, cors_origins=("https://app.example",))
    async with json_server(tmp_path / "d" / "p.db", http=settings) as server:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for origin, allowed in (("https://app.example", True), ("https://evil.example", False), ("null", False)):
            async with server.http.get(server.url + "/v1/account", headers={"Origin": origin}) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
                assert "Access-Control-Allow-Credentials" not in answer.headers
                assert "Origin" in answer.headers["Vary"]
            async with server.http.options(server.url + "/v1/messages", headers={"Origin": origin, **asked}) as answer:
                assert answer.status == 204
                assert ("Access-Control-Allow-Methods" in answer.headers) is allowed
        async with server.http.get(
            server.url + "/.well-known/host-meta.json", headers={"Origin": "https://evil.example"}
        ) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"


HEAD = b"POST /v1/sessions HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + SMUGGLED,
        HEAD + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
        HEAD + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
        HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\x00\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
        b"POST /v1/sessions HTTP/1.1\nHost: a.example\nContent-Length: 2\n\n{}" + SMUGGLED,
        HEAD + b"X\x00: a\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    ],
)
async def test_smuggled_requests_are_not_seen(server, data):
    answer = await raw(server, data)
    assert answer.startswith(b"HTTP/1.1 400") or answer.startswith(b"HTTP/1.0 400")
    assert b"\r\n\r\nHTTP/" not in answer
    assert b"404" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'\xef\xbb\xbf{"refresh_token":"x"}',
        '{"refresh_token":"x"}'.encode("utf-16"),
        b'{"refresh_token":"x","refresh_token":"y"}',
        b'{"refresh_token":"\\ud800"}',
        b'{"refresh_token":"\xed\xa0\x80"}',
        b'{"refresh_token":"\\u0000"}',
        b'{"refresh_token":NaN}',
        b'{"refresh_token":' + b"9" * 100_000 + b"}",
        b'{"refresh_token":' + b"[" * 100_000,
        b'{"refresh_token":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"refresh_token":' + b'{"a":' * 100_000,
        b'{"refresh_token":1}',
        b'{"refresh_token":"x","more":1}',
        b'{"refresh_token":"x"} x',
    ],
)
async def test_hostile_json(server, body):
    headers = {"Content-Type": "application/json"}
    async with server.http.post(server.url + "/v1/sessions/refresh", data=body, headers=headers) as answer:
        assert answer.status == 400
        assert json.loads(await answer.read())["status"] == 400


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_bodies_of_another_type(server, kind):
    async with server.http.post(
        server.url + "/v1/sessions/refresh", data=b"{}", headers={"Content-Type": kind}
    ) as answer:
        assert answer.status == 415


async def test_bodies_that_are_too_large(server):
    async with server.http.post(
        server.url + "/v1/sessions", data=b"x" * 2_000_000, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413

    async def chunks():
        for _ in range(40):
            yield b" " * 65_536

    async with server.http.post(
        server.url + "/v1/sessions", data=chunks(), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413


async def test_a_connection_that_says_nothing_is_told_so_and_closed(tmp_path):
    async with json_server(tmp_path / "d" / "p.db", first_request=0.3) as server:
        for data in (b"", b"GET /healthz HTTP/1.1\r\nHost: a.ex"):
            assert (await raw(server, data)).startswith(b"HTTP/1.1 408")
        status, _ = await server.call("GET", "/v1/account")
        assert status == 401
        await asyncio.sleep(0.5)
        assert (await server.call("GET", "/v1/account"))[0] == 401


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\n" + b"X: a\r\n" * 5000 + b"\r\n",
    ],
)
async def test_long_heads_are_refused(server, head):
    assert (await raw(server, head)).split(b" ")[1] == b"400"


async def test_every_answer_has_the_headers(server):
    for path in ("/v1/account", "/nothing", "/docs", "/openapi.json", "/healthz"):
        async with server.http.get(server.url + path) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src" in answer.headers["Content-Security-Policy"]
            assert len(answer.headers["X-Request-Id"]) == 16


async def test_paths_and_methods_that_are_not_there(server):
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/v1/accounts", 405), ("GET", "/login", 405)):
        async with server.http.request(method, server.url + path) as answer:
            assert answer.status == status
            assert answer.content_type == "application/problem+json"
            assert (status != 405) or answer.headers["Allow"]


async def test_the_docs_page_loads_nothing_from_elsewhere(server):
    for path in ("/docs", "/docs/docs.js", "/docs/docs.css"):
        async with server.http.get(server.url + path) as answer:
            text = await answer.text()
            assert answer.status == 200
            assert "://" not in text
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")


async def test_host_meta(server):
    _, found = await server.call("GET", "/.well-known/host-meta.json")
    assert {"rel": "urn:xmpp:alt-connections:websocket", "href": "wss://a.example/xmpp-websocket"} in found["links"]
    assert {"rel": "urn:parley:federation:1", "href": "https://a.example/federation"} in found["links"]
    async with server.http.get(server.url + "/.well-known/host-meta") as answer:
        assert answer.content_type == "application/xrd+xml"
        assert b"<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>" in await answer.read()


async def test_metrics_for_loopback(server):
    async with server.http.get(server.url + "/metrics") as answer:
        assert (answer.status, await answer.read()) == (200, b"# EOF\n")
