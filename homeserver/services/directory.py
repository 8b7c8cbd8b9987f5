"""The directory: accounts of one's own domain, by the beginning of their name."""

from homeserver.domain.accounts import Account, Role
from homeserver.domain.errors import Forbidden, NotAllowed, RateLimited
from homeserver.services.accounts import Accounts
from homeserver.services.limits import Limit, Limits

MOST: int = 50
"""Accounts in one answer; what comes behind them is found by a longer text."""
SHORTEST: int = 2
"""Fewest characters to search by, so that the list of all accounts is not one request away."""


class Directory:
    """Searches for who may. ``is_open`` is false where the operator wants no directory."""

    def __init__(self, accounts: Accounts, limits: Limits, is_open: bool) -> None:
        self._accounts = accounts
        self._limits = limits
        self.is_open = is_open

    async def search(self, asker: Account, text: str, most: int = MOST) -> list[Account]:
        """Accounts of the asker's domain whose localpart begins with a text, by address; none for one that is too short.

        Guests neither search nor are found. Raises `NotAllowed`, `Forbidden`, `RateLimited`.
        """
        if not self.is_open:
            raise NotAllowed("there is no directory here")
        if asker.role is Role.GUEST:
            raise Forbidden("guests may not search")
        wait = self._limits.take(Limit.SEARCH, asker.jid.bare)
        if wait:
            raise RateLimited("too many searches", wait)
        beginning = text.strip().rstrip("*").lower()
        if len(beginning) < SHORTEST:
            return []
        return await self._accounts.search(asker.jid.domain, beginning, min(most, MOST))
