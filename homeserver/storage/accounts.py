"""SQL for accounts, their verifiers and the server's own secrets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Row, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from homeserver.domain.accounts import Account, AccountState, Role, Verifier
from homeserver.domain.errors import Conflict
from homeserver.protocol.jid import JID
from homeserver.storage import devices, dialect, invites
from homeserver.storage.schema import account, credential, secret


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account starts with. ``invitation`` is the digest of the token it is made with, or None, which must have
    been valid at ``valid_at``; then the role is that of the invitation."""

    jid: JID
    role: Role
    verifiers: Sequence[Verifier]
    created: float
    invitation: bytes | None
    valid_at: float = 0.0


def by_jid(connection: Connection, bare: str) -> Account | None:
    """The account with that bare JID in any state, or None."""
    row = connection.execute(select(account).where(account.c.jid == bare)).one_or_none()
    return None if row is None else _account(row)


def by_id(connection: Connection, id_: int) -> Account | None:
    """The account with that number in any state, or None."""
    row = connection.execute(select(account).where(account.c.id == id_)).one_or_none()
    return None if row is None else _account(row)


def by_ids(connection: Connection, ids: Sequence[int]) -> list[Account]:
    """The accounts with those numbers, in no order; unknown numbers are left out."""
    return [_account(row) for row in connection.execute(select(account).where(account.c.id.in_(ids)))]


def listing(
    connection: Connection, domain: str | None, after: str, limit: int, state: AccountState | None = None
) -> list[Account]:
    """Accounts that are not deleted, by address, from behind ``after``; of every domain when ``domain`` is None, in
    every other state when ``state`` is None."""
    query = select(account).where(account.c.state != AccountState.DELETED, account.c.jid > after)
    if domain is not None:
        query = query.where(account.c.domain == domain)
    if state is not None:
        query = query.where(account.c.state == state)
    return [_account(row) for row in connection.execute(query.order_by(account.c.jid).limit(limit))]


def count(connection: Connection, domain: str, state: AccountState | None) -> int:
    """How many accounts a domain has in a state; in any but DELETED when it is None."""
    wanted = account.c.state != AccountState.DELETED if state is None else account.c.state == state
    return int(connection.execute(select(func.count()).where(account.c.domain == domain, wanted)).scalar_one())


def created(connection: Connection, id_: int) -> float:
    """When an account was made, in seconds since the epoch."""
    return float(connection.execute(select(account.c.created).where(account.c.id == id_)).scalar_one())


def newest(connection: Connection) -> int:
    """The highest number of an account, 0 where there is none."""
    return int(connection.execute(select(func.max(account.c.id))).scalar_one() or 0)


def following(
    connection: Connection, after: int, last: int, limit: int, domain: str | None, role: Role | None
) -> list[Account]:
    """Active accounts with numbers above ``after`` up to ``last``, by number; of one domain and role, or (None) any."""
    query = select(account).where(account.c.id > after, account.c.id <= last, account.c.state == AccountState.ACTIVE)
    if domain is not None:
        query = query.where(account.c.domain == domain)
    if role is not None:
        query = query.where(account.c.role == role.value)
    return [_account(row) for row in connection.execute(query.order_by(account.c.id).limit(limit))]


def search(connection: Connection, domain: str, beginning: str, limit: int) -> list[Account]:
    """Active accounts of a domain, guests left out, whose localpart starts with a text, by address."""
    query = select(account).where(
        dialect.starts_with(connection, account.c.jid, beginning),
        account.c.domain == domain,
        account.c.state == AccountState.ACTIVE,
        account.c.role != Role.GUEST.value,
    )
    return [_account(row) for row in connection.execute(query.order_by(account.c.jid).limit(limit))]


def having(connection: Connection, role: Role) -> list[str]:
    """The bare JIDs of all accounts with a role that are not deleted."""
    query = select(account.c.jid).where(account.c.role == role.value, account.c.state != AccountState.DELETED)
    return list(connection.execute(query).scalars())


def create(connection: Connection, new: NewAccount) -> Account:
    """Make an account and use up its invitation.

    Raises `Conflict` when the address exists or existed, `Forbidden` when the invitation is not valid for its domain.
    """
    role = new.role
    if new.invitation is not None:
        role = invites.take_for_account(connection, new.invitation, new.valid_at, new.jid).role
    if invites.is_reserved(connection, new.jid, new.created, new.invitation):
        raise Conflict("this address is taken")
    values = {
        "jid": new.jid.bare,
        "domain": new.jid.domain,
        "state": AccountState.ACTIVE,
        "role": role.value,
        "created": new.created,
    }
    try:
        made = connection.execute(insert(account).values(values)).inserted_primary_key
    except IntegrityError as error:
        raise Conflict("this address is taken") from error
    if made is None:
        raise Conflict("this address is taken")
    found = Account(int(made[0]), new.jid.to_bare(), AccountState.ACTIVE, role)
    _insert_verifiers(connection, found.id, new.verifiers)
    return found


def verifier(connection: Connection, bare: str, mechanism: str) -> Verifier | None:
    """The verifier of an account that may log in, or None."""
    row = connection.execute(_VERIFIER, {"bare": bare, "wanted": mechanism}).one_or_none()
    if row is None:
        return None
    return Verifier(row.mechanism, row.salt, row.iterations, row.stored_key, row.server_key)


_VERIFIER: Final = (
    select(credential)
    .join(account, account.c.id == credential.c.account)
    .where(
        account.c.jid == bindparam("bare"),
        account.c.state == AccountState.ACTIVE,
        credential.c.mechanism == bindparam("wanted"),
    )
)
"""Asked by every login, so it is made once."""


def change_password(
    connection: Connection, id_: int, verifiers: Sequence[Verifier], keep_device: str | None
) -> list[str]:
    """Replace all verifiers of an account, end all its tokens and the links that set its password; returns the ids of the
    devices dropped.

    Those of the JSON API are dropped but for ``keep_device``; XMPP clients have the new password to log in with.
    """
    connection.execute(delete(credential).where(credential.c.account == id_))
    _insert_verifiers(connection, id_, verifiers)
    invites.drop_passwords_of(connection, id_)
    return devices.end_tokens(connection, id_, keep_device)


def reset_password(
    connection: Connection, invitation: bytes, now: float, verifiers: Sequence[Verifier]
) -> tuple[int, list[str]]:
    """Use up a link that sets a password; the account and the ids of the devices dropped. Raises `Forbidden`."""
    subject = invites.take_for_password(connection, invitation, now).subject
    assert subject is not None
    return subject, change_password(connection, subject, verifiers, None)


def set_state(connection: Connection, id_: int, state: AccountState, ends: float | None = None) -> list[str]:
    """Set the state and when the account, or what it leaves, ends; returns the ids of the devices dropped.

    Any state but ACTIVE drops the devices, DELETED the verifiers and open invitations too.
    """
    connection.execute(update(account).where(account.c.id == id_).values(state=state, ends=ends))
    if state is AccountState.ACTIVE:
        return []
    if state is AccountState.DELETED:
        connection.execute(delete(credential).where(credential.c.account == id_))
        invites.drop_of(connection, id_)
    return devices.drop_all(connection, id_)


def ended(connection: Connection, now: float, limit: int) -> list[Account]:
    """Accounts to be deleted by now, and deleted ones that still have something; those that wait longest first."""
    query = select(account).where(account.c.ends <= now).order_by(account.c.ends).limit(limit)
    return [_account(row) for row in connection.execute(query)]


def purged(connection: Connection, id_: int) -> None:
    """Nothing is left of a deleted account but its name."""
    connection.execute(update(account).where(account.c.id == id_).values(ends=None))


def lacks_verifier(connection: Connection, mechanism: str) -> bool:
    """Whether an account that may log in with a password has no verifier for ``mechanism``."""
    has_any = exists().where(credential.c.account == account.c.id)
    has_it = exists().where(credential.c.account == account.c.id, credential.c.mechanism == mechanism)
    query = select(account.c.id).where(account.c.state == AccountState.ACTIVE, has_any, ~has_it).limit(1)
    return connection.execute(query).first() is not None


def mechanisms_of(connection: Connection, bare: str) -> list[str]:
    """For which mechanisms the account has verifiers."""
    query = (
        select(credential.c.mechanism).join(account, account.c.id == credential.c.account).where(account.c.jid == bare)
    )
    return list(connection.execute(query).scalars())


def add_verifier(connection: Connection, bare: str, made: Verifier) -> bool:
    """Give an active account a verifier that it lacks; false if it has one for that mechanism, which stays."""
    id_ = connection.execute(
        select(account.c.id).where(account.c.jid == bare, account.c.state == AccountState.ACTIVE)
    ).scalar_one_or_none()
    if id_ is None or made.mechanism in mechanisms_of(connection, bare):
        return False
    _insert_verifiers(connection, id_, [made])
    return True


def set_role(connection: Connection, id_: int, role: Role) -> None:
    """Set the role."""
    connection.execute(update(account).where(account.c.id == id_).values(role=role.value))


def ensure_secret(connection: Connection, name: str, proposed: bytes, now: float) -> bytes:
    """The secret of that name; ``proposed`` becomes it when there is none yet."""
    found = connection.execute(select(secret.c.value).where(secret.c.name == name)).scalar_one_or_none()
    if found is not None:
        return bytes(found)
    connection.execute(insert(secret).values(name=name, value=proposed, created=now))
    return proposed


def secrets_of(connection: Connection, prefix: str) -> list[tuple[str, bytes, float]]:
    """Name, value and time of the secrets whose name starts with ``prefix``, oldest first."""
    rows = connection.execute(
        select(secret)
        .where(secret.c.name.startswith(prefix, autoescape=True))
        .order_by(secret.c.created, secret.c.name)
    )
    return [(row.name, bytes(row.value), row.created) for row in rows]


def drop_secret(connection: Connection, name: str) -> None:
    """Delete a secret."""
    connection.execute(delete(secret).where(secret.c.name == name))


def _insert_verifiers(connection: Connection, id_: int, verifiers: Sequence[Verifier]) -> None:
    rows = [
        {
            "account": id_,
            "mechanism": made.mechanism,
            "salt": made.salt,
            "iterations": made.iterations,
            "stored_key": made.stored_key,
            "server_key": made.server_key,
        }
        for made in verifiers
    ]
    if rows:
        connection.execute(insert(credential), rows)


def _account(row: Row[tuple[object, ...]]) -> Account:
    local, _, domain = row.jid.rpartition("@")
    return Account(row.id, JID(local, domain), AccountState(row.state), Role(row.role), row.ends)
