"""Which addresses a connection to another server may go to.

A name that a stranger chose may resolve to anything: this machine, the network behind it, a cloud's metadata service.
The decision is made on the resolved address, and the connection is made to that very address, so an answer that
changes between the two does not help anyone (S-150). Addresses that carry an IPv4 address inside are judged by it too.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_REFUSED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "fec0::/10",
        "5f00::/16",
    )
)


class AddressRefused(OSError):
    """The address is not one that strangers may make this server connect to."""


def is_public(text: str) -> bool:
    """Whether a connection to the numeric address ``text`` may be made on a stranger's word."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if _is_refused(address):
        return False
    # What Python's releases say of the addresses that carry another one differs; what is inside decides.
    return all(
        one.is_global and not one.is_multicast and not _is_refused(one) for one in _embedded(address) or [address]
    )


def _is_refused(address: Address) -> bool:
    return any(address.version == network.version and address in network for network in _REFUSED)


def _embedded(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = []
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if address in _COMPATIBLE or any(address in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for one resolved address (for ``aiohttp.TCPConnector``). Raises `AddressRefused`.

    This is the last gate before every connect, also for hosts that were written as numbers and so never resolved.
    """
    family, kind, protocol, _, sockaddr = info
    if not is_public(str(sockaddr[0])):
        raise AddressRefused(f"{sockaddr[0]} is not a public address")
    return socket.socket(family=family, type=kind, proto=protocol)


class GuardedResolver(AbstractResolver):
    """Resolves names and returns public addresses only."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `AddressRefused` where a name has addresses and none is public, OSError where it has none."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        kept = [result(host, port, info) for info in found if is_public(str(info[4][0]))]
        if not kept:
            raise AddressRefused(f"{host} has no public address")
        return kept

    async def close(self) -> None:
        """Nothing is held."""


def result(host: str, port: int, info: Sequence[Any]) -> ResolveResult:
    """One answer of ``getaddrinfo`` as aiohttp wants it."""
    family, _, protocol, _, sockaddr = info
    return ResolveResult(
        hostname=host,
        host=str(sockaddr[0]),
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
