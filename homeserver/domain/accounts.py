"""Accounts, their credentials and devices."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from homeserver.protocol.jid import JID


class AccountState(IntEnum):
    """Whether an account may log in; a deleted one keeps its name from being taken again."""

    ACTIVE = 0
    DISABLED = 1
    DELETED = 2


class Role(StrEnum):
    """What an account may do beyond its own affairs."""

    ADMIN = "admin"
    OPERATOR = "operator"
    MEMBER = "member"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class Account:
    """A local account. ``id`` is the integer that storage and the JSON API's ``user_id`` use; ``jid`` is bare.

    ``ends`` is set for one whose owner removed it and that can still be restored: when it is deleted, in seconds since
    the epoch.
    """

    id: int
    jid: JID
    state: AccountState = AccountState.ACTIVE
    role: Role = Role.MEMBER
    ends: float | None = None


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is stored instead of a password (RFC 5802 s3): enough to check a proof, not to make one.

    ``mechanism`` is the SCRAM family name without -PLUS, for example "SCRAM-SHA-256".
    """

    mechanism: str
    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """One client installation of an account; times are seconds since the epoch.

    ``client`` is the id an XMPP client gave itself (XEP-0388 s2.3), None for a device of the JSON API.
    """

    id: str
    account: int
    name: str
    software: str
    created: float
    last_seen: float
    client: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """An XMPP client logs in: its id and what it says of itself; ``at`` in seconds since the epoch."""

    account: int
    client: str
    name: str
    software: str
    at: float
