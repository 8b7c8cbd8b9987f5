"""SQL that takes messages out of the log and its index: by age, by owner, one by one."""

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    update,
)

from homeserver.storage import search
from homeserver.storage.places import chunks, expanding
from homeserver.storage.schema import account, entry, log, log_state, mailbox, metadata


def purge_before(connection: Connection, before: int, limit: int = 1000, keep_waiting: bool = True) -> int:
    """Remove up to ``limit`` of the oldest messages with an id below ``before``; return how many.

    With ``keep_waiting`` those still waiting for a recipient stay, and those an outbox refers to always do. Call again
    until it returns 0.
    """
    checks: list[ColumnElement[bool]] = [log.c.id < before, ~_queued()]
    if connection.dialect.name == "sqlite":
        checks.append(log.c.id <= select(log_state.c.indexed_through).scalar_subquery())
    if keep_waiting:
        reached = select(mailbox.c.settled).where(mailbox.c.account == log.c.recipient).scalar_subquery()
        checks.append(
            or_(log.c.recipient.is_(None), log.c.treatment.bitwise_and(2) == 0, log.c.id <= func.coalesce(reached, 0))
        )
    query = select(log.c.id, log.c.sender, log.c.recipient).where(*checks).order_by(log.c.id).limit(limit)
    rows = connection.execute(query).all()
    if not rows:
        return 0
    pairs = sorted({(owner, id_) for id_, *owners in rows for owner in owners if owner is not None})
    connection.execute(
        delete(entry).where(entry.c.owner == bindparam("whose"), entry.c.id == bindparam("which")),
        [{"whose": owner, "which": id_} for owner, id_ in pairs],
    )
    for ids in chunks([id_ for id_, *_ in rows]):
        search.forget(connection, ids)
        connection.execute(delete(log).where(log.c.id.in_(expanding(ids))))
    return len(rows)


def purge_owner(connection: Connection, owner: int) -> None:
    """Remove everything the owner holds; messages stay for the other side that holds them too."""
    name = select(account.c.jid).where(account.c.id == owner).scalar_subquery()
    alone = or_(
        and_(log.c.sender == owner, log.c.recipient.is_(None)),
        and_(log.c.recipient == owner, log.c.sender.is_(None)),
        and_(log.c.recipient == owner, log.c.sender == owner),
    )
    for ids in chunks(connection.execute(select(log.c.id).where(alone, ~_queued())).scalars().all()):
        search.forget(connection, ids)
        connection.execute(delete(log).where(log.c.id.in_(expanding(ids))))
    connection.execute(update(log).where(log.c.sender == owner).values(sender=None, remote=name))
    connection.execute(update(log).where(log.c.recipient == owner).values(recipient=None, remote=name))
    connection.execute(delete(entry).where(entry.c.owner == owner))
    connection.execute(delete(mailbox).where(mailbox.c.account == owner))


def hide(connection: Connection, owner: int, id_: int) -> bool:
    """Take one message out of the owner's archive; it stays for the other side that holds it too. False: not there."""
    row = connection.execute(select(log.c.sender, log.c.recipient).where(log.c.id == id_)).one_or_none()
    if row is None or owner not in row:
        return False
    if {*row} <= {owner, None}:
        search.forget(connection, [id_])
        connection.execute(delete(log).where(log.c.id == id_, ~_queued()))
        # What another server has yet to be given stays without an owner.
        connection.execute(update(log).where(log.c.id == id_).values(sender=None, recipient=None))
    else:
        name = select(account.c.jid).where(account.c.id == owner).scalar_subquery()
        side = {"sender": None} if row.sender == owner else {"recipient": None}
        connection.execute(update(log).where(log.c.id == id_).values(remote=name, **side))
    connection.execute(delete(entry).where(entry.c.owner == owner, entry.c.id == id_))
    return True


def _queued() -> ColumnElement[bool]:
    """Whether a message of the log is still needed by the outbox, whose column says that it refers to the log."""
    outbox = metadata.tables.get("outbox")
    columns = [column for column in outbox.columns if column.info.get("log_id")] if outbox is not None else []
    return or_(false(), *(exists().where(column == log.c.id).correlate(log) for column in columns))
