"""Who is connected, over JSON, for admins and operators."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from client_api.http.administration import REFUSALS
from client_api.http.auth import Domain
from client_api.http.endpoint import address_of, endpoint
from homeserver.domain.errors import Forbidden
from homeserver.services.administration import Administration, SessionState
from homeserver.services.tokens import Caller

_PAGE = 100


class SessionEntry(Struct):
    """One session. ``connected`` is false while it waits to be resumed; ``show`` and ``priority`` are of the presence it
    shows, null where it shows none."""

    jid: str
    connected: bool
    available: bool
    show: str | None
    priority: int | None


class SessionPage(Struct):
    """Sessions by address; ``next`` is where the next page begins (``after``), null at the end."""

    sessions: list[SessionEntry]
    next: str | None


class SessionsQuery(Struct, forbid_unknown_fields=True):
    """Sessions behind an address, of one domain or all."""

    after: Annotated[str, Meta(max_length=3071)] = ""
    domain: Domain | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = _PAGE


class SessionEndpoints:
    """Sessions of all accounts."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    @endpoint("GET", "/v1/admin/sessions", query=SessionsQuery, returns=SessionPage, errors=(Forbidden,))
    async def list_sessions(self, caller: Caller, query: SessionsQuery) -> SessionPage:
        """All live sessions, of XMPP and of the live sockets of this API."""
        domain = None if query.domain is None else query.domain.lower()
        found = self._administration.sessions(caller.account, domain, query.after, query.limit)
        return SessionPage(list(map(_entry, found)), str(found[-1].jid) if len(found) == query.limit else None)

    @endpoint("DELETE", "/v1/admin/sessions/{jid}", status=204, errors=REFUSALS)
    async def end_sessions(self, caller: Caller, jid: str) -> None:
        """End one session (a full address), or all of an account; it may log in again."""
        await self._administration.end_sessions(caller.account, [address_of(jid)])


def _entry(found: SessionState) -> SessionEntry:
    return SessionEntry(str(found.jid), found.connected, found.available, found.show or None, found.priority)
