"""What an account archives, and what strangers may send to it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from client_api.http.endpoint import address_of, endpoint
from client_api.http.messages import Recipient
from homeserver.domain.errors import JidMalformed, NotAcceptable
from homeserver.domain.privacy import ArchivePreferences, Archiving, Strangers
from homeserver.services.privacy import Privacy
from homeserver.services.tokens import Caller

Addresses = Annotated[list[Recipient], Meta(max_length=100_000)]


class PrivacyChoice(Struct, forbid_unknown_fields=True):
    """``strangers``: what becomes of messages from those who are no contact and were never written to; null leaves it to
    the server."""

    strangers: Literal["off", "mark", "refuse"] | None


class ArchiveChoice(Struct, forbid_unknown_fields=True):
    """Whose messages are archived: those in ``always``, none of those in ``never``, of others all, none, or contacts."""

    default: Literal["always", "never", "roster"]
    always: Addresses = []
    never: Addresses = []


class PrivacyEndpoints:
    """Choices that hold for the whole account."""

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy

    @endpoint("GET", "/v1/privacy", returns=PrivacyChoice)
    async def show(self, caller: Caller) -> PrivacyChoice:
        """What the account chose."""
        chosen = (await self._privacy.load(caller.account)).own_strangers
        return PrivacyChoice(None if chosen is None else chosen.value)

    @endpoint("PUT", "/v1/privacy", body=PrivacyChoice, status=204)
    async def choose(self, caller: Caller, body: PrivacyChoice) -> None:
        """Choose what strangers may send."""
        wanted = None if body.strangers is None else Strangers(body.strangers)
        await self._privacy.set_strangers(caller.account, wanted)

    @endpoint("GET", "/v1/privacy/archive", returns=ArchiveChoice)
    async def show_archive(self, caller: Caller) -> ArchiveChoice:
        """Whose messages are archived."""
        return _shown((await self._privacy.load(caller.account)).archive)

    @endpoint(
        "PUT", "/v1/privacy/archive", body=ArchiveChoice, returns=ArchiveChoice, errors=(JidMalformed, NotAcceptable)
    )
    async def choose_archive(self, caller: Caller, body: ArchiveChoice) -> ArchiveChoice:
        """Choose whose messages are archived from now on. What is not archived is shown while a socket is open only."""
        always, never = (frozenset(str(address_of(text)) for text in texts) for texts in (body.always, body.never))
        wanted = ArchivePreferences(Archiving(body.default), always, never)
        return _shown(await self._privacy.set_archive(caller.account, wanted))


def _shown(found: ArchivePreferences) -> ArchiveChoice:
    return ArchiveChoice(found.default.value, sorted(found.always), sorted(found.never))
