"""What clients may know of this server before they log in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from client_api.http.endpoint import endpoint
from homeserver.services.accounts import Accounts
from homeserver.services.files import Files
from homeserver.services.retention import Pages

FRESH: Final = 300
"""Seconds for which anybody may keep the answer."""


class Software(Struct):
    """The program that runs."""

    name: str
    version: str


class ServiceInfo(Struct):
    """A service with an address of its own, for XMPP clients."""

    kind: str
    address: str


class ServerLimits(Struct):
    """Sizes in bytes. ``file_bytes`` is null where no files are taken; ``page`` is the most messages on one page."""

    message_bytes: int
    request_bytes: int
    file_bytes: int | None
    page: int


class ServerInfo(Struct):
    """The server. ``registration``: who may make an account; ``contact_addresses``: whom to write to, URIs by
    purpose (XEP-0157), those without any left out; ``features``: what this server was set up with."""

    domains: list[str]
    software: Software
    registration: Literal["open", "invite", "closed"]
    limits: ServerLimits
    services: list[ServiceInfo]
    features: list[str]
    contact_addresses: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Description:
    """What does not change while the server runs. ``services`` are addresses by kind."""

    software: str
    version: str
    message_bytes: int
    request_bytes: int
    services: Sequence[tuple[str, str]]
    features: Sequence[str]
    contact_addresses: Mapping[str, Sequence[str]]


class ServerInfoEndpoints:
    """The server itself. ``files`` is None where none are taken."""

    def __init__(self, accounts: Accounts, files: Files | None, pages: Pages, description: Description) -> None:
        self._accounts = accounts
        self._files = files
        self._pages = pages
        self._description = description

    @endpoint("GET", "/v1/server", returns=ServerInfo, auth=False, max_age=FRESH)
    async def show(self) -> ServerInfo:
        """Domains, software, limits, registration, services and contact addresses of this server."""
        known = self._description
        return ServerInfo(
            list(self._accounts.domains),
            Software(known.software, known.version),
            self._accounts.registration,
            ServerLimits(
                known.message_bytes,
                known.request_bytes,
                None if self._files is None else self._files.max_bytes,
                self._pages.most,
            ),
            [ServiceInfo(kind, address) for kind, address in known.services],
            sorted(known.features),
            {purpose: list(addresses) for purpose, addresses in known.contact_addresses.items()},
        )
