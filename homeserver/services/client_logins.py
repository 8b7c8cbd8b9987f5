"""XMPP clients as devices: who logged in with what, and the tokens that spare them the password (XEP-0484)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.accounts import Account, Visit
from homeserver.domain.errors import NotAuthorized
from homeserver.storage import devices as storage
from homeserver.storage.devices import NewToken, TokenProven

if TYPE_CHECKING:
    from config.settings import TokenSettings
    from homeserver.services.clock import Clock
    from homeserver.storage.database import Database

__all__ = ["ClientLogins", "LoginToken", "TokenProven"]

log = structlog.get_logger(__name__)

TOKEN_BYTES: Final = 32
MAX_CLIENTS: Final = 50
RENEWAL: Final = 86_400.0
"""Seconds: a token that is older is replaced at the next login, so a stolen one is soon worth nothing."""


@dataclass(frozen=True, slots=True)
class LoginToken:
    """A token as its client gets it; ``expires`` in seconds since the epoch."""

    text: str = field(repr=False)
    expires: float


class ClientLogins:
    """Writes ride in the group commit: many log in at once, and all wait for it anyway."""

    def __init__(self, database: Database, settings: TokenSettings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    @property
    def gives_tokens(self) -> bool:
        """Whether clients may ask for tokens at all."""
        return self._settings.login_lifetime > 0

    async def tokens(self, bare: str, client: str, mechanism: str) -> list[bytes]:
        """What that client of the account may prove with ``mechanism``; none where no such account may log in."""
        return await self._database.read(storage.login_tokens, bare, client, mechanism, self._clock.now())

    async def login(
        self, account: Account, client: str, name: str, software: str, proven: TokenProven | None, wanted: str
    ) -> LoginToken | None:
        """Note that a client logged in; returns a token where it asked for one or its own is to be replaced.

        ``wanted`` is the mechanism it asks a token for, or "". Raises `NotAuthorized` if the token it proved was ended
        or used up meanwhile, or its counter did not grow (XEP-0484 s3.4).
        """
        now = self._clock.now()
        lifetime = self._settings.login_lifetime
        text = secrets.token_urlsafe(TOKEN_BYTES)
        new: NewToken | None = None
        if wanted:
            new = NewToken(text.encode(), wanted, now + lifetime, None)
        elif proven is not None:
            due = now + lifetime - min(RENEWAL, lifetime / 2)
            new = NewToken(text.encode(), proven.mechanism, now + lifetime, due)
        visit = Visit(account.id, client, name, software, now)
        stands, given = await self._database.share(
            storage.visited, visit, secrets.token_hex(8), proven, new, MAX_CLIENTS
        )
        if not stands:
            log.warning("login token used twice or ended", account=account.jid.bare)
            raise NotAuthorized("the token is not valid any more")
        return LoginToken(text, now + lifetime) if given else None
