"""SQL for devices and their refresh tokens."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from homeserver.domain.accounts import Device
from homeserver.storage.schema import device, refresh_token


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
    oldest = (
        select(device.c.id)
        .where(device.c.account == made.account, device.c.id != made.id)
        .order_by(device.c.last_seen.desc())
        .offset(most - 1)
    )
    dropped = list(connection.execute(oldest).scalars())
    drop(connection, dropped)
    return dropped


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
        connection.execute(delete(refresh_token).where(refresh_token.c.device.in_(ids)))
        connection.execute(delete(device).where(device.c.id.in_(ids)))


def drop_all(connection: Connection, account: int, keep: str | None = None) -> list[str]:
    """Delete the devices of an account except ``keep``; returns their ids."""
    query = select(device.c.id).where(device.c.account == account)
    if keep is not None:
        query = query.where(device.c.id != keep)
    ids = list(connection.execute(query).scalars())
    drop(connection, ids)
    return ids


def drop_expired(connection: Connection, now: float) -> None:
    """Delete refresh tokens that are over, and devices that have none left."""
    connection.execute(delete(refresh_token).where(refresh_token.c.expires <= now))
    alive = select(refresh_token.c.device)
    connection.execute(delete(device).where(device.c.id.not_in(alive)))


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
    return Device(row.id, row.account, row.name, row.software, row.created, row.last_seen)
