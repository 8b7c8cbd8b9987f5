"""How much may wait for an account that reads nothing (XEP-0160 s3)."""

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Stored
from homeserver.domain.sessions import Session


class WaitingQuota:
    """Counts the messages that no session took since the account was last there; ``full`` are the accounts for which
    no more are taken. It counts from the start of the process: what waited before is not among them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.full: set[int] = set()
        self._counts: dict[int, int] = {}

    def waited(self, account: Account, _stored: Stored) -> None:
        """A message was left waiting."""
        count = self._counts[account.id] = self._counts.get(account.id, 0) + 1
        if count >= self.most:
            self.full.add(account.id)

    def returned(self, session: Session) -> None:
        """A session of the account takes what waits."""
        self.read(session.account)

    def read(self, account: Account) -> None:
        """The account reads its archive."""
        if self._counts.pop(account.id, None) is not None:
            self.full.discard(account.id)
