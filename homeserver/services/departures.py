"""Accounts whose owners removed them: restorable for a while, then deleted; and what deleted accounts leave behind."""

from typing import Final

import structlog

from homeserver.domain.accounts import AccountState
from homeserver.services.accounts import Accounts
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.streams import Streams

log = structlog.get_logger(__name__)

ROUND: Final = 100


class Departures:
    """``purge`` is to be called now and then. What it did not finish, the next process does."""

    def __init__(self, accounts: Accounts, mailboxes: Mailboxes, streams: Streams) -> None:
        self._accounts = accounts
        self._mailboxes = mailboxes
        self._streams = streams

    async def purge(self) -> None:
        """Delete accounts whose time is over, and the messages of those that are deleted."""
        while found := await self._accounts.ended(ROUND):
            for account in found:
                if account.state is not AccountState.DELETED:
                    await self._accounts.delete(account.jid.bare)
                await self._mailboxes.purge(account)
                await self._streams.forget_of(account.id)
                await self._accounts.purged(account)
                log.info("account purged", account=account.jid.bare)
