"""Profiles: name, text and picture, of the own account and of others."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from urllib.parse import quote

from aiohttp import web
from msgspec import Meta, Struct

from client_api.http.endpoint import BODY_TIME, Binary, Call, address_of, endpoint
from client_api.http.files import announced
from homeserver.domain.errors import BadRequest, JidMalformed, NotAcceptable, NotFound, ResourceConstraint, TooLarge
from homeserver.protocol.jid import JID
from homeserver.services.profile_lookup import ProfileLookup
from homeserver.services.profiles import Profile, Profiles
from homeserver.services.tokens import Caller

PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
_REFUSALS: Final = (BadRequest, NotAcceptable, TooLarge, ResourceConstraint)


class ProfileChange(Struct, forbid_unknown_fields=True):
    """What others see; an empty text takes it away."""

    name: Annotated[str, Meta(max_length=256)]
    bio: Annotated[str, Meta(max_length=4096)] = ""


class ProfileInfo(Struct):
    """What is shown of an account. ``avatar_id`` changes with the picture; ``avatar_url`` is where it is read, with an
    access token; both null where there is none."""

    jid: str
    name: str
    bio: str
    avatar_id: str | None
    avatar_url: str | None


class ProfileEndpoints:
    """XMPP clients see and change the same."""

    def __init__(self, profiles: Profiles, lookup: ProfileLookup) -> None:
        self._profiles = profiles
        self._lookup = lookup

    @endpoint("GET", "/v1/profile", returns=ProfileInfo)
    async def own(self, caller: Caller) -> ProfileInfo:
        """The own profile."""
        jid = caller.account.jid
        return _shown(jid, await self._profiles.profile(caller.account, jid))

    @endpoint("PUT", "/v1/profile", body=ProfileChange, returns=ProfileInfo, errors=_REFUSALS)
    async def change(self, caller: Caller, body: ProfileChange) -> ProfileInfo:
        """Replace name and text."""
        await self._profiles.set_profile(caller.account, body.name.strip(), body.bio.strip())
        return await self.own(caller)

    @endpoint("PUT", "/v1/profile/avatar", content=PICTURES, returns=ProfileInfo, errors=_REFUSALS)
    async def set_avatar(self, caller: Caller, call: Call) -> ProfileInfo:
        """Replace the picture. What it is, its bytes say; for whom it is, the account may have chosen before."""
        size = announced(call.request)
        self._profiles.avatars.bound(size)
        try:
            async with asyncio.timeout(BODY_TIME):
                data = await call.request.content.readexactly(size)
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error
        except (asyncio.IncompleteReadError, web.RequestPayloadError) as error:
            raise BadRequest("the picture did not arrive as a whole") from error
        await self._profiles.avatars.publish(caller.account, self._profiles.avatars.checked(data))
        return await self.own(caller)

    @endpoint("DELETE", "/v1/profile/avatar", status=204)
    async def remove_avatar(self, caller: Caller) -> None:
        """Take the picture away."""
        await self._profiles.avatars.remove(caller.account)

    @endpoint(
        "GET", "/v1/users/{jid}/profile", returns=ProfileInfo, errors=(JidMalformed, NotFound, ResourceConstraint)
    )
    async def other(self, caller: Caller, jid: str) -> ProfileInfo:
        """What somebody shows, here or on another server; an address that shows nothing is as good as none."""
        found = address_of(jid).to_bare()
        return _shown(found, await self._lookup.profile(caller.account, found))

    @endpoint("GET", "/v1/users/{jid}/avatar", gives=PICTURES, errors=(JidMalformed, NotFound, ResourceConstraint))
    async def avatar(self, caller: Caller, jid: str) -> Binary:
        """The picture of somebody."""
        found = (await self._lookup.profile(caller.account, address_of(jid).to_bare())).avatar
        if found is None:
            raise NotFound("there is no picture")
        return Binary(found.data, found.media_type, {"ETag": f'"{found.id}"', "Cache-Control": "private, max-age=300"})


def _shown(jid: JID, found: Profile) -> ProfileInfo:
    if found.avatar is None:
        return ProfileInfo(jid.bare, found.name, found.bio, None, None)
    return ProfileInfo(
        jid.bare, found.name, found.bio, found.avatar.id, f"/v1/users/{quote(jid.bare, safe='@')}/avatar"
    )
