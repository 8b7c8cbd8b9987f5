"""Invitations over JSON (XEP-0401, XEP-0379, XEP-0445 say what clients do with the URIs)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from client_api.http.auth import Domain, Id, time_text
from client_api.http.endpoint import endpoint
from homeserver.domain.accounts import Role
from homeserver.domain.errors import (
    Conflict,
    Forbidden,
    NotAcceptable,
    NotAllowed,
    NotFound,
)
from homeserver.domain.invites import InviteKind
from homeserver.services.invites import Invite, Invites, Wish
from homeserver.services.tokens import Caller

RoleName = Literal["admin", "operator", "member", "guest"]
_MOST_ID = 2**31 - 1


class InviteRequest(Struct, forbid_unknown_fields=True):
    """What the invitation is for: ``account``, ``contact``, or ``both`` (an account that becomes a contact).

    Without ``kind`` it is for both where accounts are made by invitation, else for a contact. ``expires_in`` is in
    seconds. Only admins and operators may choose the ``username``.
    """

    kind: Literal["account", "contact", "both"] | None = None
    uses: Annotated[int, Meta(ge=1, le=100_000)] = 1
    expires_in: Annotated[int, Meta(ge=60, le=31_536_000)] | None = None
    domain: Domain | None = None
    username: Annotated[str, Meta(min_length=1, max_length=1023)] | None = None
    role: RoleName = "member"


class InviteGrant(Struct):
    """The invitation. Its token is shown this once. ``uri`` is for clients, ``url`` a page for people."""

    id: Id
    kind: str
    invite: str
    uri: str
    url: str
    uses: int
    expires_at: str


class InviteEntry(Struct):
    """An open invitation; ``uses`` are those left."""

    id: Id
    kind: str
    domain: str
    username: str
    role: str
    uses: int
    created_at: str
    expires_at: str


class InviteList(Struct):
    """Open invitations, oldest first."""

    invites: list[InviteEntry]


class InviteEndpoints:
    """What an account may do about its own invitations."""

    def __init__(self, invites: Invites) -> None:
        self._invites = invites

    @endpoint(
        "POST",
        "/v1/invites",
        body=InviteRequest,
        returns=InviteGrant,
        status=201,
        errors=(Forbidden, NotAllowed, NotAcceptable, NotFound, Conflict),
    )
    async def create_invite(self, caller: Caller, body: InviteRequest) -> InviteGrant:
        """Invite somebody to an account, to become a contact, or both."""
        wish = Wish(
            None if body.kind is None else InviteKind(body.kind),
            body.uses,
            float(body.expires_in or 0),
            body.domain or "",
            body.username or "",
            Role(body.role),
        )
        return grant_of(await self._invites.create(caller.account, wish))

    @endpoint("GET", "/v1/invites", returns=InviteList)
    async def list_invites(self, caller: Caller) -> InviteList:
        """The open invitations of the account, without their tokens."""
        return InviteList(
            [
                InviteEntry(
                    one.id,
                    one.kind.value,
                    one.domain,
                    one.username,
                    one.role.value,
                    one.uses,
                    time_text(one.created),
                    time_text(one.expires),
                )
                for one in await self._invites.list(caller.account)
            ]
        )

    @endpoint("DELETE", "/v1/invites/{invite_id}", status=204, errors=(NotFound,))
    async def delete_invite(self, caller: Caller, invite_id: str) -> None:
        """Revoke an invitation of the account."""
        if not (invite_id.isascii() and invite_id.isdecimal() and len(invite_id) <= 10 and int(invite_id) <= _MOST_ID):
            raise NotFound("no such invitation")
        await self._invites.revoke(caller.account, int(invite_id))


def grant_of(made: Invite) -> InviteGrant:
    """An invitation as its maker gets it."""
    return InviteGrant(made.id, made.kind.value, made.token, made.uri, made.url, made.uses, time_text(made.expires))
