"""Since when contacts are away, for clients that show a list of them (XEP-0012, for many at once)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from homeserver.domain.accounts import Account, AccountState
from homeserver.storage import activity

if TYPE_CHECKING:
    from homeserver.protocol.jid import JID
    from homeserver.services.accounts import Accounts
    from homeserver.services.privacy import Privacy
    from homeserver.storage.database import Database

_AT_ONCE: Final = 500


class Absences:
    """Looks up accounts of this server."""

    def __init__(self, database: Database, accounts: Accounts, privacy: Privacy) -> None:
        self._database = database
        self._accounts = accounts
        self._privacy = privacy

    async def of(self, asker: Account, contacts: Sequence[JID]) -> dict[str, float]:
        """When those of ``contacts`` that are here were last available, in seconds since the epoch, by bare address.

        ``contacts`` are those whose presence the asker sees. Left out are accounts that were never available, that
        block the asker, and that let nobody know.
        """
        found: dict[int, str] = {}
        for jid in contacts:
            if jid.domain not in self._accounts.domains:
                continue
            account = await self._accounts.find(jid.bare)
            if account is None or account.state is not AccountState.ACTIVE:
                continue
            if await self._privacy.bars_later(account, asker.jid) or not await self._privacy.shows_last_seen(account):
                continue
            found[account.id] = jid.bare
        ids = list(found)
        seen: dict[str, float] = {}
        for start in range(0, len(ids), _AT_ONCE):
            times = await self._database.read(activity.of, ids[start : start + _AT_ONCE])
            seen.update((found[id_], at) for id_, at in times.items())
        return seen
