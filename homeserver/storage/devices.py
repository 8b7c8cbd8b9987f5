"""SQL for devices, their refresh tokens (JSON API), and the tokens XMPP clients log in with (XEP-0484).

The latter are stored as they were given out: HT-* proves them by an HMAC whose key is the token, so a hash would be as good
as the token to whoever steals it. They are random, end, are replaced often, and prove one device, not the password.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, or_, select, update

from homeserver.domain.accounts import AccountState, Device, Visit
from homeserver.storage.schema import account as account_table
from homeserver.storage.schema import device, login_token, refresh_token


@dataclass(frozen=True, slots=True)
class TokenProven:
    """A login by token: its bytes, the client's counter, whether all tokens of the client end with it."""

    token: bytes = field(repr=False)
    mechanism: str
    count: int | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to give out; a client that did not ask for it gets it if its own ends before ``due``."""

    token: bytes = field(repr=False)
    mechanism: str
    expires: float
    due: float | None


def find(connection: Connection, id_: str) -> Device | None:
    """The device with that id, or None."""
    row = connection.execute(select(device).where(device.c.id == id_)).one_or_none()
    return None if row is None else _device(row)


def listing(connection: Connection, account: int) -> list[Device]:
    """The devices of an account, the one seen last first."""
    rows = connection.execute(select(device).where(device.c.account == account).order_by(device.c.last_seen.desc()))
    return [_device(row) for row in rows]


def upsert(connection: Connection, made: Device, digest: bytes, expires: float, most: int) -> list[str]:
    """Log a device in: keep or renew it and start its chain of refresh tokens with ``digest``.

    An account keeps at most ``most`` devices; the ids of those dropped for it, longest unseen first, are returned.
    """
    values = {"name": made.name, "software": made.software, "last_seen": made.last_seen}
    mine = (device.c.id == made.id) & (device.c.account == made.account)
    if connection.execute(update(device).where(mine).values(values)).rowcount == 0:
        connection.execute(
            insert(device).values(id=made.id, account=made.account, created=made.created, position=None, **values)
        )
    connection.execute(delete(refresh_token).where(refresh_token.c.device == made.id))
    connection.execute(insert(refresh_token).values(hash=digest, device=made.id, expires=expires, used=None))
    return _drop_oldest(connection, (device.c.account == made.account) & device.c.client.is_(None), made.id, most)


def _drop_oldest(connection: Connection, among: ColumnElement[bool], but: str, most: int) -> list[str]:
    """Drop devices beyond ``most``, longest unseen first, never ``but``; returns their ids."""
    oldest = select(device.c.id).where(among, device.c.id != but).order_by(device.c.last_seen.desc()).offset(most - 1)
    dropped = list(connection.execute(oldest).scalars())
    drop(connection, dropped)
    return dropped


# --- XMPP clients -------------------------------------------------------------------------------------------------------


# Asked by every login, so they are made once.
_TOKENS: Final = (
    select(login_token.c.token)
    .join(device, device.c.id == login_token.c.device)
    .join(account_table, account_table.c.id == device.c.account)
    .where(
        account_table.c.jid == bindparam("bare"),
        account_table.c.state == AccountState.ACTIVE,
        device.c.client == bindparam("wanted"),
        login_token.c.mechanism == bindparam("way"),
        login_token.c.expires > bindparam("now"),
    )
)
_KNOWN: Final = select(device.c.id, device.c.name, device.c.software).where(
    device.c.account == bindparam("holder"), device.c.client == bindparam("wanted")
)
_SEEN: Final = (
    update(device)
    .where(device.c.id == bindparam("known"))
    .values(name=bindparam("said"), software=bindparam("by"), last_seen=bindparam("at"))
)
_PROVEN: Final = select(login_token).where(
    login_token.c.device == bindparam("known"),
    login_token.c.token == bindparam("proven"),
    login_token.c.mechanism == bindparam("way"),
    login_token.c.expires > bindparam("now"),
)
_UNUSED: Final = delete(login_token).where(login_token.c.device == bindparam("known"), login_token.c.is_new)
_GIVEN: Final = insert(login_token)


def login_tokens(connection: Connection, bare: str, client: str, mechanism: str, now: float) -> list[bytes]:
    """What a client of an account that may log in can prove with ``mechanism``; at most two."""
    asked = {"bare": bare, "wanted": client, "way": mechanism, "now": now}
    return [bytes(found) for found in connection.execute(_TOKENS, asked).scalars()]


def visited(
    connection: Connection, visit: Visit, id_: str, proven: TokenProven | None, new: NewToken | None, most: int
) -> tuple[bool, bool]:
    """Note a login of an XMPP client, settle the token it used and keep the one it gets.

    Returns whether the login stands (the token is still good and the counter is new, XEP-0484 s3.4), and whether
    ``new`` is to be given out. ``id_`` is for a client not seen before; an account keeps at most ``most`` of them.
    """
    known = connection.execute(_KNOWN, {"holder": visit.account, "wanted": visit.client}).one_or_none()
    due = new is not None and new.due is None
    if proven is not None:
        ends = None if known is None else _use(connection, known.id, proven, visit.at)
        if ends is None:
            return False, False
        due = due or (new is not None and new.due is not None and ends < new.due and not proven.is_last)
    if known is None:
        said = {"name": visit.name, "software": visit.software, "created": visit.at, "last_seen": visit.at}
        connection.execute(insert(device).values(id=id_, account=visit.account, client=visit.client, **said))
        _drop_oldest(connection, (device.c.account == visit.account) & device.c.client.is_not(None), id_, most)
    else:
        id_ = known.id
        names = {"said": visit.name or known.name, "by": visit.software or known.software}
        connection.execute(_SEEN, {"known": id_, "at": visit.at, **names})
    if due and new is not None:
        connection.execute(_UNUSED, {"known": id_})
        connection.execute(
            _GIVEN,
            {
                "device": id_,
                "is_new": True,
                "mechanism": new.mechanism,
                "token": new.token,
                "expires": new.expires,
                "counter": None,
            },
        )
    return True, due


def _use(connection: Connection, id_: str, proven: TokenProven, now: float) -> float | None:
    """Use up what the proof used up (XEP-0484 s3.5, s3.6, s5.1); returns when the token ends, None if it is no good."""
    own = login_token.c.device == id_
    asked = {"known": id_, "proven": proven.token, "way": proven.mechanism, "now": now}
    row = connection.execute(_PROVEN, asked).first()
    if row is None or (proven.count is not None and row.counter is not None and proven.count <= row.counter):
        return None
    if proven.is_last:
        connection.execute(delete(login_token).where(own))
    elif row.is_new:
        connection.execute(delete(login_token).where(own, ~login_token.c.is_new))
        connection.execute(update(login_token).where(own).values(is_new=False, counter=proven.count))
    elif proven.count is not None:
        connection.execute(update(login_token).where(own, ~login_token.c.is_new).values(counter=proven.count))
    return float(row.expires)


def end_tokens(connection: Connection, account: int, keep: str | None = None) -> list[str]:
    """No token of an account is good any more: devices of the JSON API go but for ``keep``; returns their ids."""
    of_account = select(device.c.id).where(device.c.account == account)
    connection.execute(delete(login_token).where(login_token.c.device.in_(of_account)))
    query = of_account.where(device.c.client.is_(None))
    if keep is not None:
        query = query.where(device.c.id != keep)
    ids = list(connection.execute(query).scalars())
    drop(connection, ids)
    return ids


# --- the end ------------------------------------------------------------------------------------------------------------


def rotate(
    connection: Connection, digest: bytes, successor: bytes, now: float, expires: float
) -> tuple[Device | None, bool]:
    """Exchange a refresh token for its successor.

    Returns the device and True when it was good; the device and False when the token had been used before (the device
    is deleted then, RFC 9700 s4.14.2); None and False when it is unknown or over.
    """
    fresh = (refresh_token.c.hash == digest) & refresh_token.c.used.is_(None) & (refresh_token.c.expires > now)
    taken = connection.execute(update(refresh_token).where(fresh).values(used=now)).rowcount == 1
    row = connection.execute(
        select(device, refresh_token.c.used)
        .join(refresh_token, refresh_token.c.device == device.c.id)
        .where(refresh_token.c.hash == digest)
    ).one_or_none()
    if row is None or (not taken and row.used is None):
        return None, False
    found = _device(row)
    if not taken:
        drop(connection, [found.id])
        return found, False
    connection.execute(update(device).where(device.c.id == found.id).values(last_seen=now))
    connection.execute(insert(refresh_token).values(hash=successor, device=found.id, expires=expires, used=None))
    return found, True


def drop(connection: Connection, ids: Sequence[str]) -> None:
    """Delete devices and their tokens."""
    if ids:
        connection.execute(delete(login_token).where(login_token.c.device.in_(ids)))
        connection.execute(delete(refresh_token).where(refresh_token.c.device.in_(ids)))
        connection.execute(delete(device).where(device.c.id.in_(ids)))


def drop_all(connection: Connection, account: int) -> list[str]:
    """Delete the devices of an account; returns their ids."""
    ids = list(connection.execute(select(device.c.id).where(device.c.account == account)).scalars())
    drop(connection, ids)
    return ids


def drop_expired(connection: Connection, now: float, unseen: float) -> None:
    """Delete tokens that are over, devices that have none left, and XMPP clients not seen since ``unseen``."""
    connection.execute(delete(refresh_token).where(refresh_token.c.expires <= now))
    connection.execute(delete(login_token).where(login_token.c.expires <= now))
    of_json = device.c.client.is_(None) & device.c.id.not_in(select(refresh_token.c.device))
    gone = device.c.client.is_not(None) & (device.c.last_seen <= unseen)
    gone &= device.c.id.not_in(select(login_token.c.device))
    connection.execute(delete(device).where(or_(of_json, gone)))


def position(connection: Connection, id_: str) -> int | None:
    """The last message a device has processed, or None."""
    found: int | None = connection.execute(select(device.c.position).where(device.c.id == id_)).scalar_one_or_none()
    return found


def set_position(connection: Connection, id_: str, reached: int, now: float) -> None:
    """Move a device's position forward; it never goes back."""
    connection.execute(
        update(device)
        .where(device.c.id == id_, func.coalesce(device.c.position, -1) < reached)
        .values(position=reached, last_seen=now)
    )


def _device(row: Row[tuple[object, ...]]) -> Device:
    return Device(row.id, row.account, row.name, row.software, row.created, row.last_seen, row.client)
