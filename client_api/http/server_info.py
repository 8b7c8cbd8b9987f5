"""What everybody may know of this server."""

from __future__ import annotations

from msgspec import Struct

from client_api.http.endpoint import endpoint
from homeserver.services.accounts import Accounts
from homeserver.xmpp.contact_addresses import Addresses


class ServerInfo(Struct):
    """``contact_addresses`` are URIs by purpose (XEP-0157): abuse, admin, feedback, sales, security, status, support; those
    without any are left out. ``registration`` is how accounts are made: closed, invite, open."""

    registration: str
    contact_addresses: dict[str, list[str]]


class ServerInfoEndpoints:
    """For clients before a login, and for other people's operators."""

    def __init__(self, accounts: Accounts, addresses: Addresses) -> None:
        self._accounts = accounts
        self._addresses = addresses

    @endpoint("GET", "/v1/server", returns=ServerInfo, auth=False)
    async def show_server(self) -> ServerInfo:
        """Whom to write to about this server, and how accounts are made."""
        addresses = {purpose: list(found) for purpose, found in self._addresses.known.items()}
        return ServerInfo(self._accounts.registration, addresses)
