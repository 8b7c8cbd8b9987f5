"""What a stream asks before a client is bound: who it is, which resource, which session to resume.

Each method answers one question of the protocol core from the services. Nothing here touches bytes.
"""

from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Final

import structlog

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import AccountDisabled, NotAuthorized, RateLimited
from homeserver.protocol.jid import JID
from homeserver.protocol.scram import Verifier
from homeserver.services.accounts import Accounts
from homeserver.services.limits import Bucket, Limit, Limits
from homeserver.xmpp.registration import Attempt, Registration

log = structlog.get_logger(__name__)

RESOURCE_BYTES: Final = 9
"""Random part of a resource: 72 bits, so that nobody guesses a full JID."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, as far as the network tells."""

    address: str
    secure: bool

    def secured(self) -> "Peer":
        """The same peer after a TLS handshake."""
        return Peer(self.address, True)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an account may send; all its connections share the two buckets."""

    stanzas: Bucket
    bytes: Bucket


class Negotiation:
    """Answers the questions of one server's streams."""

    def __init__(self, accounts: Accounts, limits: Limits, registration: Registration) -> None:
        self._accounts = accounts
        self._limits = limits
        self._registration = registration

    def registration(self, domain: str, peer: Peer) -> Attempt:
        """What answers registration queries of a connection that has not logged in (XEP-0077 s3.1)."""
        return self._registration.attempt(domain, peer.address)

    def admit(self, peer: Peer, jid: JID) -> None:
        """Raises `RateLimited` where this address has failed too often."""
        wait = self._limits.login_wait(peer.address, jid.bare)
        if wait > 0:
            raise RateLimited("Too many failed logins", wait)

    async def verifier(self, peer: Peer, jid: JID, hash_name: str) -> Verifier:
        """What a SCRAM proof is checked against; for unknown users too, so that the challenge tells nothing.

        Raises `RateLimited`.
        """
        self.admit(peer, jid)
        found = await self._accounts.verifier(jid.bare, f"SCRAM-{hash_name}")
        return Verifier(found.salt, found.iterations, found.stored_key, found.server_key)

    async def check_password(self, peer: Peer, jid: JID, password: str) -> Account:
        """The account whose password it is. Raises `NotAuthorized`."""
        self.admit(peer, jid)
        return await self._accounts.check_password(jid.bare, password)

    async def proven(self, jid: JID) -> Account:
        """The account of a proof that fits. Raises `AccountDisabled`, `NotAuthorized`."""
        account = await self._accounts.find(jid.bare)
        if account is None or account.state is AccountState.DELETED:
            raise NotAuthorized
        if account.state is AccountState.DISABLED:
            raise AccountDisabled
        self._limits.login_accepted()
        return account

    def pace(self, peer: Peer, account: Account) -> Pace | None:
        """What slows the account's connection down; None where this address has no limits."""
        if self._limits.exempt(peer.address):
            return None
        bare = account.jid.bare
        return Pace(self._limits.bucket(Limit.STANZA_ACCOUNT, bare), self._limits.bucket(Limit.BYTES_ACCOUNT, bare))

    def failed(self, peer: Peer, jid: JID | None) -> None:
        """Count a wrong proof."""
        self._limits.login_failed(peer.address, jid.bare if jid is not None else "")
        log.info("login failed", address=peer.address, account=jid.bare if jid is not None else "")

    def resource(self, tag: str = "") -> str:
        """A new resource: a random part nobody can guess, behind the client's tag where it gave one (XEP-0386 s3.1)."""
        made = token_urlsafe(RESOURCE_BYTES)
        return f"{tag}~{made}" if tag else made
