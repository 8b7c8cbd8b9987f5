"""What a stream asks before a client is bound: who it is, which resource, which session to resume.

Each method answers one question of the protocol core from the services. Nothing here touches bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Final

import structlog

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.accounts import Verifier as StoredVerifier
from homeserver.domain.errors import AccountDisabled, NotAuthorized, RateLimited
from homeserver.protocol.fast import IssuedToken
from homeserver.protocol.jid import JID
from homeserver.protocol.scram import Verifier
from homeserver.protocol.stream_events import Authenticated, UpgradeOffered
from homeserver.protocol.upgrade import Salt
from homeserver.services.accounts import Accounts
from homeserver.services.client_logins import ClientLogins, TokenProven
from homeserver.services.limits import Bucket, Limit, Limits
from homeserver.services.verifiers import Verifiers
from homeserver.xmpp.registration import Attempt, Registration
from homeserver.xmpp.render import stamp

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

    def __init__(
        self,
        accounts: Accounts,
        limits: Limits,
        registration: Registration,
        clients: ClientLogins,
        verifiers: Verifiers,
    ) -> None:
        self._accounts = accounts
        self._clients = clients
        self._verifiers = verifiers
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

    async def tokens(self, peer: Peer, jid: JID, client: str, mechanism: str) -> list[bytes]:
        """What a client may prove instead of the password (XEP-0484). Raises `RateLimited`."""
        self.admit(peer, jid)
        return await self._clients.tokens(jid.bare, client, mechanism)

    async def visited(self, account: Account, event: Authenticated) -> IssuedToken | None:
        """Note the client as a device of the account, if it says who it is; returns a token for it.

        Raises `NotAuthorized` if it proved a token that is no good any more.
        """
        agent, use = event.user_agent, event.use
        if agent is None or agent.id is None:
            return None
        proven = None if use is None else TokenProven(use.token, event.mechanism, use.count, use.is_last)
        given = await self._clients.login(account, agent.id, agent.device, agent.software, proven, event.wanted_token)
        return None if given is None else IssuedToken(given.text, stamp(int(given.expires) * 1_000_000))

    async def salts(self, jid: JID, hash_names: Sequence[str]) -> list[Salt]:
        """For which verifiers the account's client is needed (XEP-0480)."""
        return [Salt(*found) for found in await self._verifiers.missing(jid.bare, hash_names)]

    async def upgrade(self, event: UpgradeOffered) -> None:
        """Keep a verifier that the account lacked."""
        made, name = event.verifier, event.hash_name
        kept = StoredVerifier(f"SCRAM-{name}", made.salt, made.iterations, made.stored_key, made.server_key)
        await self._verifiers.add(event.account.bare, kept)

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
