"""When accounts last logged in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from homeserver.services.accounts import Ending, Revocation
from homeserver.storage import activity as storage

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.sessions import Session
    from homeserver.services.clock import Clock
    from homeserver.storage.database import Database


class Logins:
    """``bound`` is called with every session that begins."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def bound(self, session: Session) -> None:
        """Note the time, with whatever is committed next."""
        self._database.commit.also(storage.note_login, session.account.id, self._clock.now())

    def revoked(self, revocation: Revocation) -> None:
        """A deleted account leaves nothing behind."""
        if revocation.ending is Ending.DELETED:
            self._database.commit.also(storage.clear_login, revocation.account.id)

    async def last(self, accounts: Sequence[Account]) -> dict[int, float]:
        """By number: when each account last logged in, seconds since the epoch; who never did is left out."""
        return await self._database.read(storage.logins, [account.id for account in accounts])
