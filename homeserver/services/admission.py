"""How often an account may tell its presence, ask for contacts and report others; beyond the limits of its stream."""

from homeserver.domain.accounts import Account
from homeserver.domain.errors import RateLimited
from homeserver.protocol.jid import JID
from homeserver.services.limits import Limit, Limits


class Admission:
    """Asks the buckets. What a local account does too often is refused to it; what comes from elsewhere is not taken."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def broadcast(self, account: Account) -> None:
        """A change of presence that contacts are told. Raises `RateLimited`."""
        self._refuse(Limit.PRESENCE_ACCOUNT, account.jid.bare)

    def request(self, account: Account) -> None:
        """An account asks for a contact. Raises `RateLimited`."""
        self._refuse(Limit.SUBSCRIPTION_SENDER, account.jid.bare)

    def report(self, account: Account) -> None:
        """An account reports somebody. Raises `RateLimited`."""
        self._refuse(Limit.REPORT_ACCOUNT, account.jid.bare)

    def requested(self, account: Account, sender: JID, is_remote: bool) -> bool:
        """Whether a new contact request may reach an account; each of the buckets that has room gives a token."""
        kinds = [(Limit.SUBSCRIPTION_ACCOUNT, account.jid.bare)]
        if is_remote:
            kinds = [(Limit.SUBSCRIPTION_PEER, sender.domain), (Limit.SUBSCRIPTION_SENDER, sender.bare), *kinds]
        return not any(self._limits.take(kind, key) for kind, key in kinds)

    def _refuse(self, kind: Limit, key: str) -> None:
        wait = self._limits.take(kind, key)
        if wait:
            raise RateLimited("Too often, try again later", retry_after=wait)
