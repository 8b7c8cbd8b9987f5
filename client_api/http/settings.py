"""Settings of clients, kept on the server for all devices of the account. What they mean is for the clients."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from client_api.http.endpoint import endpoint
from homeserver.domain.errors import ResourceConstraint
from homeserver.services.private_data import PrivateData
from homeserver.services.tokens import Caller

DOCUMENT: Final = "settings"


class ClientSettings(Struct, forbid_unknown_fields=True):
    """Any JSON object; ``{}`` where nothing was stored."""

    settings: dict[str, Any]


class SettingsEndpoints:
    """One document per account, within the quota of its private data."""

    def __init__(self, private: PrivateData) -> None:
        self._private = private

    @endpoint("GET", "/v1/settings", returns=ClientSettings)
    async def show(self, caller: Caller) -> ClientSettings:
        """What was stored last."""
        found = await self._private.find(caller.account, DOCUMENT)
        return ClientSettings({} if found is None else msgspec.json.decode(found))

    @endpoint("PUT", "/v1/settings", body=ClientSettings, status=204, errors=(ResourceConstraint,))
    async def replace(self, caller: Caller, body: ClientSettings) -> None:
        """Replace all of it."""
        await self._private.put(caller.account, {DOCUMENT: msgspec.json.encode(body.settings)})
