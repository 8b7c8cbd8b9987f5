"""What a client needs for calls."""

from __future__ import annotations

from msgspec import Struct

from client_api.http.endpoint import endpoint
from homeserver.services.external_services import ExternalService, ExternalServices
from homeserver.services.tokens import Caller


class IceServer(Struct, omit_defaults=True):
    """A STUN or TURN server, as WebRTC's RTCIceServer has it."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class IceServers(Struct):
    """Servers for calls. ``expires_at`` is when the first credentials end, in seconds since the epoch; null without any."""

    ice_servers: list[IceServer]
    expires_at: int | None


class Calls:
    """Calls themselves are messages between clients."""

    def __init__(self, services: ExternalServices) -> None:
        self._services = services

    @endpoint("GET", "/v1/calls/ice-servers", returns=IceServers)
    async def ice_servers(self, caller: Caller) -> IceServers:
        """STUN and TURN servers with fresh credentials."""
        found = self._services.offered(caller.account)
        ends = [each.expires for each in found if each.expires is not None]
        return IceServers(
            [IceServer([_url(each)], each.username, each.password) for each in found], min(ends, default=None)
        )


def _url(found: ExternalService) -> str:
    """RFC 7064 s3.1 and RFC 7065 s3.1; a URI of STUN has no transport."""
    host = f"[{found.host}]" if ":" in found.host else found.host
    transport = f"?transport={found.transport}" if found.type in ("turn", "turns") else ""
    return f"{found.type}:{host}:{found.port}{transport}"
