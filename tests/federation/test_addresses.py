"""Connections that a stranger must not be able to make this server open (S-150)."""

import asyncio
import socket
from typing import Any

import pytest

from federation.addresses import AddressRefused, GuardedResolver, guarded_socket, is_public
from federation.http.fetch import Fetcher, FetchFailed

REFUSED = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:0:7f00:1::1",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "fd00::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public(address: str) -> None:
    assert is_public(address)


def test_socket_is_made_for_public_addresses_only() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    with pytest.raises(AddressRefused):
        guarded_socket(info)
    guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))).close()


async def test_resolver_drops_private_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["8.8.8.8", "127.0.0.1", "10.1.1.1"]

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in answers]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    assert [found["host"] for found in await GuardedResolver().resolve("b.example", 443)] == ["8.8.8.8"]
    answers.remove("8.8.8.8")
    with pytest.raises(AddressRefused):
        await GuardedResolver().resolve("b.example", 443)


async def test_no_url_reaches_a_listener_here() -> None:
    touched = 0

    def touch(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal touched
        touched += 1
        writer.close()

    server = await asyncio.start_server(touch, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    hosts = [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "127.1",
        "127.0.0.1.",
        "localhost.",
        "LOCALHOST",
        "169.254.169.254",
        "user@127.0.0.1",
        "127.0.0.1#",
    ]
    fetcher = Fetcher({})
    for host in hosts:
        with pytest.raises(FetchFailed):
            await fetcher.get("b.example", f"https://{host}:{port}/", 1000, 3)
    for url in (f"http://b.example:{port}/", "file:///etc/passwd", "ftp://b.example/", "//b.example", "https:///x", ""):
        with pytest.raises(FetchFailed):
            await fetcher.get("b.example", url, 1000, 3)
    await fetcher.close()
    server.close()
    assert touched == 0
