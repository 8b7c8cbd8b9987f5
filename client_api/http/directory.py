"""The directory of the own domain over JSON."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from client_api.http.auth import Id
from client_api.http.endpoint import endpoint
from homeserver.domain.errors import Forbidden, NotAllowed
from homeserver.services.directory import MOST, Directory
from homeserver.services.profiles import Profiles
from homeserver.services.tokens import Caller


class DirectoryQuery(Struct, forbid_unknown_fields=True):
    """The beginning of a name, two characters or more."""

    query: Annotated[str, Meta(min_length=1, max_length=256)]
    limit: Annotated[int, Meta(ge=1, le=MOST)] = MOST


class DirectoryEntry(Struct):
    """An account that was found. ``name`` is that of its profile, or the beginning of its address."""

    user_id: Id
    jid: str
    name: str


class DirectoryPage(Struct):
    """Accounts by address; for more, ask for a longer text."""

    users: list[DirectoryEntry]


class DirectoryEndpoints:
    """Search, where the operator allows it."""

    def __init__(self, directory: Directory, profiles: Profiles) -> None:
        self._directory = directory
        self._profiles = profiles

    @endpoint("GET", "/v1/users", query=DirectoryQuery, returns=DirectoryPage, errors=(Forbidden, NotAllowed))
    async def search_users(self, caller: Caller, query: DirectoryQuery) -> DirectoryPage:
        """Accounts of the own domain whose name begins with a text."""
        found = await self._directory.search(caller.account, query.query, query.limit)
        names = await self._profiles.names(found, caller.account.jid)
        return DirectoryPage(
            [DirectoryEntry(one.id, one.jid.bare, names.get(one.jid.bare) or one.jid.local or "") for one in found]
        )
