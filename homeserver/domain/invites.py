"""Invitations: what a token is good for."""

from dataclasses import dataclass
from enum import StrEnum

from homeserver.domain.accounts import Role


class InviteKind(StrEnum):
    """What the holder of a token may do once.

    ACCOUNT: make an account here. CONTACT: become a contact of the inviter (XEP-0379). BOTH: one of the two; a new
    account becomes a contact as well (XEP-0401 s5.1). PASSWORD: set a new password of one account.
    """

    ACCOUNT = "account"
    CONTACT = "contact"
    BOTH = "both"
    PASSWORD = "password"  # noqa: S105 the name of a kind

    @property
    def registers(self) -> bool:
        """Whether an account can be made with it."""
        return self in (InviteKind.ACCOUNT, InviteKind.BOTH)

    @property
    def subscribes(self) -> bool:
        """Whether it makes contacts of inviter and invited."""
        return self in (InviteKind.CONTACT, InviteKind.BOTH)


@dataclass(frozen=True, slots=True)
class Invitation:
    """What is stored of a token: ``digest`` is its SHA-256.

    ``inviter`` is an account id, None where the operator invites from the command line. ``subject`` is the account
    whose password it sets. ``username`` is the localpart that is kept for the holder, "" for a free choice. ``role`` is
    what the new account gets. ``uses`` are those left; times are seconds since the epoch. ``id`` is 0 before it is kept.
    """

    digest: bytes
    kind: InviteKind
    domain: str
    uses: int
    created: float
    expires: float
    inviter: int | None = None
    subject: int | None = None
    username: str = ""
    role: Role = Role.MEMBER
    id: int = 0
