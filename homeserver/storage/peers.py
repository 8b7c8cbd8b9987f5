"""SQL for what is known of other servers: what has arrived from them, and their keys."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from homeserver.domain.federation import REMEMBERED, Reception
from homeserver.storage.schema import peer_batch, peer_document, peer_key, peer_state


@dataclass(frozen=True, slots=True)
class PeerKey:
    """A public key as a peer published it; times in seconds, ``not_after`` None while it is in use."""

    id: str
    public: bytes
    not_before: float
    not_after: float | None


@dataclass(frozen=True, slots=True)
class PeerDocument:
    """The last key document of a peer: its number, the names below the domain, every key it ever listed."""

    domain: str
    number: int
    subdomains: tuple[str, ...]
    base: str | None
    keys: tuple[PeerKey, ...]


def reception(connection: Connection, origin: str, destination: str) -> Reception:
    """What has arrived from ``origin`` for ``destination``."""
    found = Reception()
    mine = (peer_state.c.origin == origin, peer_state.c.destination == destination)
    row = connection.execute(select(peer_state).where(*mine)).first()
    if row is None:
        return found
    found.epoch = row.epoch
    found.highest = row.highest
    found.rejected = {int(number): why for number, why in json.loads(row.rejected).items()}
    batches = (peer_batch.c.origin == origin, peer_batch.c.destination == destination)
    recent = connection.execute(
        select(peer_batch.c.ids)
        .where(*batches, peer_batch.c.epoch == row.epoch, peer_batch.c.last > row.highest - REMEMBERED)
        .order_by(peer_batch.c.last)
    )
    for (ids,) in recent:
        found.ids.extend(json.loads(ids))
    epochs = connection.execute(select(peer_batch.c.epoch).where(*batches, peer_batch.c.epoch != row.epoch).distinct())
    found.retired = {epoch for (epoch,) in epochs}
    return found


def save_reception(
    connection: Connection,
    origin: str,
    destination: str,
    epoch: str,
    highest: int,
    ids: list[str],
    rejected: dict[int, str],
    now: float,
) -> None:
    """Store that a batch was taken: the new highest number, and the ids of the new numbers for later repeats."""
    mine = (peer_state.c.origin == origin, peer_state.c.destination == destination)
    values = {"epoch": epoch, "highest": highest, "rejected": json.dumps(rejected)}
    if connection.execute(update(peer_state).where(*mine).values(**values)).rowcount == 0:
        connection.execute(insert(peer_state).values(origin=origin, destination=destination, **values))
    connection.execute(
        insert(peer_batch).values(
            origin=origin, destination=destination, epoch=epoch, last=highest, at=now, ids=json.dumps(ids)
        )
    )


def known_ids(connection: Connection, origin: str, destination: str, wanted: Iterable[str]) -> set[str]:
    """Which of ``wanted`` arrived before, in any epoch. Used only while an origin names a previous epoch."""
    missing = set(wanted)
    found: set[str] = set()
    rows = connection.execute(
        select(peer_batch.c.ids)
        .where(peer_batch.c.origin == origin, peer_batch.c.destination == destination)
        .order_by(peer_batch.c.at.desc())
    )
    for (ids,) in rows:
        found |= missing.intersection(json.loads(ids))
        if len(found) == len(missing):
            break
    return found


def forget_batches(connection: Connection, before: float) -> int:
    """Delete the ids of batches older than ``before``, except those of the last numbers. Returns how many."""
    newest = (
        select(peer_state.c.highest)
        .where(
            peer_state.c.origin == peer_batch.c.origin,
            peer_state.c.destination == peer_batch.c.destination,
            peer_state.c.epoch == peer_batch.c.epoch,
        )
        .correlate(peer_batch)
        .scalar_subquery()
    )
    return connection.execute(
        delete(peer_batch).where(
            peer_batch.c.at < before, func.coalesce(newest, peer_batch.c.last + REMEMBERED) >= peer_batch.c.last + REMEMBERED
        )
    ).rowcount  # fmt: skip


def document(connection: Connection, domain: str) -> PeerDocument | None:
    """What was remembered of a peer's keys, or None."""
    row = connection.execute(select(peer_document).where(peer_document.c.domain == domain)).first()
    if row is None:
        return None
    keys = connection.execute(select(peer_key).where(peer_key.c.domain == domain).order_by(peer_key.c.key_id))
    return PeerDocument(
        domain=domain,
        number=row.number,
        subdomains=tuple(json.loads(row.subdomains)),
        base=row.base,
        keys=tuple(PeerKey(key.key_id, key.public, key.not_before, key.not_after) for key in keys),
    )


def save_document(connection: Connection, found: PeerDocument, now: float) -> None:
    """Remember a peer's keys. A key that is there keeps its public half; only its dates may change."""
    values = {"number": found.number, "subdomains": json.dumps(found.subdomains), "base": found.base}
    mine = peer_document.c.domain == found.domain
    if connection.execute(update(peer_document).where(mine).values(**values)).rowcount == 0:
        connection.execute(insert(peer_document).values(domain=found.domain, **values))
    for key in found.keys:
        same = (peer_key.c.domain == found.domain, peer_key.c.key_id == key.id)
        dates = {"not_before": key.not_before, "not_after": key.not_after}
        if connection.execute(update(peer_key).where(*same).values(**dates)).rowcount == 0:
            connection.execute(
                insert(peer_key).values(domain=found.domain, key_id=key.id, public=key.public, first_seen=now, **dates)
            )


def save_base(connection: Connection, domain: str, base: str) -> None:
    """Remember that a domain has the signed API, so that it is never reached in another way."""
    if (
        connection.execute(update(peer_document).where(peer_document.c.domain == domain).values(base=base)).rowcount
        == 0
    ):
        connection.execute(insert(peer_document).values(domain=domain, number=0, subdomains="[]", base=base))


def bases(connection: Connection) -> dict[str, str]:
    """Every domain that is known to have the signed API, with its base URL."""
    query = select(peer_document.c.domain, peer_document.c.base).where(peer_document.c.base.is_not(None))
    return {row.domain: row.base for row in connection.execute(query)}
