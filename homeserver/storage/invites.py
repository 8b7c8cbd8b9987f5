"""SQL for invitations. A row goes when its last use is taken, when it is revoked, and some time after it expired."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, or_, select, update

from homeserver.domain.accounts import AccountState, Role
from homeserver.domain.errors import Conflict, Forbidden, NotAcceptable
from homeserver.domain.invites import Invitation, InviteKind
from homeserver.protocol.jid import JID
from homeserver.storage.schema import account, invite


def add(connection: Connection, new: Invitation, most: int) -> int:
    """Keep an invitation; its id.

    Raises `NotAcceptable` where the inviter has ``most`` open ones, `Conflict` where the name it keeps is taken.
    """
    if new.inviter is not None:
        # The row of the inviter is locked, so that two at once are counted one after the other.
        connection.execute(select(account.c.id).where(account.c.id == new.inviter).with_for_update())
        mine = (invite.c.account == new.inviter, invite.c.expires > new.created)
        if connection.execute(select(func.count()).select_from(invite).where(*mine)).scalar_one() >= most:
            raise NotAcceptable("too many open invitations: revoke one, or wait until one is used")
    if new.username:
        taken = exists().where(account.c.jid == f"{new.username}@{new.domain}")
        if connection.execute(select(taken)).scalar_one() or is_reserved(
            connection, JID(new.username, new.domain), new.created
        ):
            raise Conflict("this address is taken")
    values = {
        "hash": new.digest,
        "kind": new.kind.value,
        "account": new.inviter,
        "subject": new.subject,
        "domain": new.domain,
        "username": new.username,
        "role": new.role.value,
        "uses": new.uses,
        "created": new.created,
        "expires": new.expires,
    }
    made = connection.execute(insert(invite).values(values)).inserted_primary_key
    assert made is not None
    return int(made[0])


def find(connection: Connection, digest: bytes) -> Invitation | None:
    """The invitation of a token, expired or not, or None. One whose inviter may not log in counts for nothing."""
    row = connection.execute(select(invite).where(invite.c.hash == digest, _has_inviter())).one_or_none()
    return None if row is None else _invitation(row)


def take(connection: Connection, digest: bytes, valid_at: float, *where: ColumnElement[bool]) -> Invitation:
    """Use an invitation once. ``valid_at`` is the time at which it must not have expired.

    Raises `Forbidden` where there is none that may be used.
    """
    usable = and_(invite.c.hash == digest, invite.c.uses > 0, invite.c.expires > valid_at, _has_inviter(), *where)
    if connection.execute(update(invite).where(usable).values(uses=invite.c.uses - 1)).rowcount != 1:
        raise Forbidden("the invitation is not valid")
    found = _invitation(connection.execute(select(invite).where(invite.c.hash == digest)).one())
    if found.uses == 0:
        connection.execute(delete(invite).where(invite.c.id == found.id))
    return found


def take_for_account(connection: Connection, digest: bytes, valid_at: float, jid: JID) -> Invitation:
    """Use an invitation to make the account ``jid``. Raises `Forbidden`."""
    return take(
        connection,
        digest,
        valid_at,
        invite.c.kind.in_([kind.value for kind in InviteKind if kind.registers]),
        invite.c.domain == jid.domain,
        invite.c.username.in_(("", jid.local)),
    )


def take_for_contact(connection: Connection, digest: bytes, valid_at: float, inviter: int) -> Invitation:
    """Use an invitation of ``inviter`` to become a contact. Raises `Forbidden`."""
    kinds = [kind.value for kind in InviteKind if kind.subscribes]
    return take(connection, digest, valid_at, invite.c.kind.in_(kinds), invite.c.account == inviter)


def take_for_password(connection: Connection, digest: bytes, valid_at: float) -> Invitation:
    """Use an invitation to set a password. Raises `Forbidden`."""
    return take(connection, digest, valid_at, invite.c.kind == InviteKind.PASSWORD.value)


def is_reserved(connection: Connection, jid: JID, now: float, besides: bytes | None = None) -> bool:
    """Whether an open invitation other than ``besides`` keeps that address for its holder (XEP-0445 s5)."""
    where = [invite.c.username == jid.local, invite.c.domain == jid.domain, invite.c.expires > now]
    if besides is not None:
        where.append(invite.c.hash != besides)
    return bool(connection.execute(select(exists().where(*where))).scalar_one())


def listing(connection: Connection, inviter: int | None, now: float) -> Sequence[Invitation]:
    """The open invitations of an account, or of the operator (None), oldest first."""
    rows = connection.execute(
        select(invite).where(invite.c.account == inviter, invite.c.expires > now).order_by(invite.c.id)
    )
    return [_invitation(row) for row in rows]


def remove(connection: Connection, inviter: int | None, id_: int) -> bool:
    """Revoke an invitation of that account, or of the operator (None); whether there was one."""
    return connection.execute(delete(invite).where(invite.c.id == id_, invite.c.account == inviter)).rowcount == 1


def drop_of(connection: Connection, id_: int) -> None:
    """Delete what an account invited to, and what may set its password."""
    connection.execute(delete(invite).where(or_(invite.c.account == id_, invite.c.subject == id_)))


def drop_passwords_of(connection: Connection, id_: int) -> None:
    """Delete what may set an account's password."""
    connection.execute(delete(invite).where(invite.c.subject == id_))


def drop_expired(connection: Connection, before: float) -> None:
    """Delete invitations that expired before that time."""
    connection.execute(delete(invite).where(invite.c.expires <= before))


def _has_inviter() -> ColumnElement[bool]:
    """The operator's, or of an account that may log in and may invite."""
    return or_(
        invite.c.account.is_(None),
        exists().where(
            account.c.id == invite.c.account,
            account.c.state == AccountState.ACTIVE,
            account.c.role != Role.GUEST.value,
        ),
    )


def _invitation(row: Any) -> Invitation:
    return Invitation(
        bytes(row.hash),
        InviteKind(row.kind),
        row.domain,
        row.uses,
        row.created,
        row.expires,
        row.account,
        row.subject,
        row.username,
        Role(row.role),
        row.id,
    )
