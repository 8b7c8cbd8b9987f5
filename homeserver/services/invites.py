"""Invitations: made, looked at, revoked, and used to become a contact (XEP-0401, XEP-0379).

A token is 22 letters and digits, 131 bits; only its SHA-256 is stored. Whoever asks about a token that does not exist,
was used, revoked or has expired is told the same.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import structlog

from homeserver.domain.accounts import Account, AccountState, Role
from homeserver.domain.errors import Forbidden, NotAcceptable, NotAllowed, NotFound
from homeserver.domain.invites import Invitation, InviteKind
from homeserver.services.accounts import Accounts, token_digest
from homeserver.services.names import new_address
from homeserver.services.roles import STAFF, Roles
from homeserver.storage import invites as storage

if TYPE_CHECKING:
    from config.feature_settings import InviteSettings
    from homeserver.services.clock import Clock
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

TOKEN_LENGTH: Final = 22
MAX_TOKEN: Final = 128
GRACE: Final = 3600.0
"""Seconds that an expired invitation is kept: a connection that showed it in time may still use it (XEP-0445 s4)."""
_ALPHABET: Final = string.ascii_letters + string.digits
_UNRESERVED: Final = "!$'()*+,;=:"
"""Marks that an address in a URI may hold unescaped (RFC 5122 s2.2), less those that end it."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation as its maker gets it, once. ``uri`` is for clients (XEP-0147), "" where none can follow it, ``url``
    the page for people; ``expires`` in seconds since the epoch."""

    id: int
    token: str
    kind: InviteKind
    uri: str
    url: str
    uses: int
    expires: float


@dataclass(frozen=True, slots=True)
class Wish:
    """What an invitation shall be. ``kind`` None: the most that is possible of BOTH and CONTACT. ``domain`` "" is the
    inviter's, ``lifetime`` in seconds, 0 as configured."""

    kind: InviteKind | None = None
    uses: int = 1
    lifetime: float = 0.0
    domain: str = ""
    username: str = ""
    role: Role = Role.MEMBER


@dataclass(frozen=True, slots=True)
class Offer:
    """A valid invitation as its holder sees it; ``inviter`` is None for the operator's. ``token`` is what it was found by."""

    token: str
    invitation: Invitation
    inviter: Account | None
    subject: Account | None
    uri: str


class Invites:
    """Invitations of a server whose pages are at ``public_url``."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        roles: Roles,
        clock: Clock,
        settings: InviteSettings,
        public_url: str,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._roles = roles
        self._clock = clock
        self._settings = settings
        self._public_url = public_url.rstrip("/")

    def reload(self, settings: InviteSettings) -> None:
        """Take over other rules for what comes from now on."""
        self._settings = settings

    # --- making -----------------------------------------------------------------------------------------------------

    def may_invite(self, account: Account) -> bool:
        """Whether the account may invite at all."""
        return account.role in STAFF or (account.role is Role.MEMBER and self._settings.allow == "members")

    async def create(self, inviter: Account | None, wish: Wish) -> Invite:
        """An invitation by an account, or by the operator (None).

        Raises `Forbidden` (who may not), `NotAllowed` (accounts are not made by invitation), `NotAcceptable` (uses,
        lifetime, name, too many open ones), `NotFound` (domain), `Conflict` (name).
        """
        if inviter is not None and not self.may_invite(inviter):
            raise Forbidden("you may not invite")
        closed = self._accounts.registration == "closed"
        kind = wish.kind or (InviteKind.CONTACT if closed else InviteKind.BOTH)
        if kind is InviteKind.PASSWORD:
            raise NotAcceptable("a link that sets a password is not made this way")
        if kind.subscribes and inviter is None:
            raise NotAcceptable("the operator is nobody's contact: invite to an account")
        if kind.registers and closed:
            raise NotAllowed("accounts are made by the operator of this server")
        self._demand_right(inviter, wish)
        domain = wish.domain.lower() or (self._accounts.domains[0] if inviter is None else inviter.jid.domain)
        if domain not in self._accounts.domains:
            raise NotFound("this domain is not served here")
        if inviter is not None and domain != inviter.jid.domain and (kind.subscribes or inviter.role is not Role.ADMIN):
            raise Forbidden("no invitations to this domain")
        username = new_address(wish.username, domain).local if wish.username and kind.registers else ""
        lifetime = wish.lifetime or self._settings.lifetime
        if not 1 <= wish.uses <= self._settings.most_uses or (username and wish.uses > 1):
            raise NotAcceptable("an invitation cannot be used that often")
        if not 1 <= lifetime <= self._settings.longest_lifetime:
            raise NotAcceptable("an invitation cannot be valid for that time")
        owner = None if inviter is None else inviter.id
        now = self._clock.now()
        new = Invitation(b"", kind, domain, wish.uses, now, now + lifetime, owner, None, username, wish.role)
        return await self._keep(new, inviter)

    async def create_reset(self, asker: Account | None, bare: str) -> Invite:
        """A link with which the holder of an account sets a new password, by staff or by the operator (None).

        Raises `Forbidden`, `NotAllowed`, `NotFound`, `NotAcceptable` (too many open ones).
        """
        if asker is None:
            found = await self._accounts.find(bare)
            if found is None or found.state is AccountState.DELETED:
                raise NotFound("no such account")
        else:
            found = await self._roles.subject(asker, bare)
        now = self._clock.now()
        owner = None if asker is None else asker.id
        lifetime = min(self._settings.reset_lifetime, self._settings.longest_lifetime)
        new = Invitation(b"", InviteKind.PASSWORD, found.jid.domain, 1, now, now + lifetime, owner, found.id)
        return await self._keep(new, None)

    def _demand_right(self, inviter: Account | None, wish: Wish) -> None:
        if inviter is None:
            return
        if wish.username and inviter.role not in STAFF:
            raise Forbidden("only admins and operators may choose the name")
        if not self._roles.may_give(inviter, wish.role):
            raise Forbidden("you may not give this role")

    async def _keep(self, new: Invitation, inviter: Account | None) -> Invite:
        token = "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))
        kept = replace(new, digest=token_digest(token))
        id_ = await self._database.write(storage.add, kept, self._settings.open_per_account)
        log.info("invitation made", kind=new.kind.value, by="operator" if new.inviter is None else new.inviter)
        return Invite(id_, token, new.kind, _uri(kept, inviter, token), self._url(token), new.uses, new.expires)

    def _url(self, token: str) -> str:
        return f"{self._public_url}/invite/{token}"

    # --- looking ----------------------------------------------------------------------------------------------------

    async def find(self, token: str) -> Offer | None:
        """The invitation of a token while it is valid, else None."""
        if not 0 < len(token) <= MAX_TOKEN:
            return None
        found = await self._database.read(storage.find, token_digest(token))
        if found is None or found.expires <= self._clock.now():
            return None
        if found.kind.registers and not found.kind.subscribes and self._accounts.registration == "closed":
            return None
        inviter = None if found.inviter is None else await self._accounts.by_id(found.inviter)
        subject = None if found.subject is None else await self._accounts.by_id(found.subject)
        return Offer(token, found, inviter, subject, _uri(found, inviter, token))

    async def list(self, inviter: Account | None) -> Sequence[Invitation]:
        """The open invitations of an account, or of the operator (None), oldest first."""
        return await self._database.read(storage.listing, None if inviter is None else inviter.id, self._clock.now())

    # --- ending -----------------------------------------------------------------------------------------------------

    async def revoke(self, inviter: Account | None, id_: int) -> None:
        """End an invitation of an account, or of the operator (None). Raises `NotFound`."""
        owner = None if inviter is None else inviter.id
        if not await self._database.write(storage.remove, owner, id_):
            raise NotFound("no such invitation")

    async def redeem(self, inviter: Account, token: str) -> bool:
        """Use an invitation to become a contact of ``inviter``; whether it was valid for that (XEP-0379 s5.2)."""
        offer = await self.find(token)
        if offer is None or not offer.invitation.kind.subscribes or offer.invitation.inviter != inviter.id:
            return False
        try:
            await self._database.write(storage.take_for_contact, token_digest(token), self._clock.now(), inviter.id)
        except Forbidden:
            return False  # somebody else was quicker
        return True

    async def purge(self) -> None:
        """Forget invitations that are over; to be called now and then."""
        await self._database.write(storage.drop_expired, self._clock.now() - GRACE)


def register_uri(domain: str, username: str, token: str) -> str:
    """What a client opens to make an account (XEP-0445 s2.1, s2.2); ``username`` is "" for a free choice."""
    name = f"{quote(username, _UNRESERVED)}@" if username else ""
    return f"xmpp:{name}{quote(domain)}?register;preauth={token}"


def _uri(invitation: Invitation, inviter: Account | None, token: str) -> str:
    """What clients open (XEP-0147, XEP-0401 s5.1, s5.4)."""
    kind = invitation.kind
    if kind is InviteKind.PASSWORD:
        return ""
    if kind is InviteKind.ACCOUNT or invitation.username or inviter is None:
        return register_uri(invitation.domain, invitation.username, token)
    address = f"{quote(inviter.jid.local or '', _UNRESERVED)}@{quote(inviter.jid.domain)}"
    return f"xmpp:{address}?roster;preauth={token}" + (";ibr=y" if kind is InviteKind.BOTH else "")
