"""Push registrations of JSON devices: the app servers are those of XMPP (XEP-0357)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from client_api.http.endpoint import address_of, endpoint
from homeserver.domain.errors import BadRequest, JidMalformed, NotAcceptable
from homeserver.services.push import AppServers
from homeserver.services.tokens import Caller

Service = Annotated[str, Meta(min_length=1, max_length=3071, description="address of the app server")]
Node = Annotated[str, Meta(min_length=1, max_length=1024, description="what the app server calls the device")]
Value = Annotated[str, Meta(max_length=4096)]


class NewPush(Struct, forbid_unknown_fields=True):
    """An app server to be told of messages that no device took. ``options`` is what it wants with each notification, such
    as a secret."""

    service: Service
    node: Node
    options: dict[str, list[Value]] = {}


class PushInfo(Struct):
    """A registration; its options are not shown. ``device_id`` is null where an XMPP client made it."""

    service: str
    node: str
    device_id: str | None


class PushList(Struct):
    """All registrations of the account."""

    push: list[PushInfo]


class PushQuery(Struct, forbid_unknown_fields=True):
    """Which registrations end; without ``node`` all of the app server."""

    service: Service
    node: Node | None = None


class PushEndpoints:
    """Registrations end with the device that made them."""

    def __init__(self, registrations: AppServers) -> None:
        self._registrations = registrations

    @endpoint("GET", "/v1/push", returns=PushList)
    async def show(self, caller: Caller) -> PushList:
        """The app servers that the account's devices are woken through."""
        found = await self._registrations.of(caller.account)
        return PushList([PushInfo(str(each.service), each.node, each.device) for each in found])

    @endpoint(
        "POST",
        "/v1/push",
        body=NewPush,
        returns=PushInfo,
        status=201,
        errors=(BadRequest, JidMalformed, NotAcceptable),
    )
    async def enable(self, caller: Caller, body: NewPush) -> PushInfo:
        """Have this device woken; the same service and node again replace the options."""
        made = await self._registrations.enable(
            caller.account, address_of(body.service), body.node, body.options.items(), device=caller.device
        )
        return PushInfo(str(made.service), made.node, made.device)

    @endpoint("DELETE", "/v1/push", query=PushQuery, status=204, errors=(JidMalformed,))
    async def disable(self, caller: Caller, query: PushQuery) -> None:
        """Write to an app server no more."""
        await self._registrations.disable(caller.account, address_of(query.service), query.node)
