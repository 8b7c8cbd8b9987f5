"""SQL for what accounts chose for their privacy: block lists, archive preferences, strangers."""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select, union

from homeserver.domain.privacy import ArchivePreferences, Archiving, Facts, Strangers
from homeserver.protocol.jid import JID
from homeserver.storage import dialect
from homeserver.storage.schema import archive_exception, blocked, privacy


def accounts(connection: Connection) -> set[int]:
    """The accounts that chose anything."""
    tables = (blocked, privacy, archive_exception)
    return set(connection.execute(union(*(select(table.c.account) for table in tables))).scalars())


def load(connection: Connection, account: int, owner: JID) -> Facts:
    """What an account chose. ``strangers`` and ``roster`` are for the caller to fill in."""
    chosen = connection.execute(select(privacy).where(privacy.c.account == account)).one_or_none()
    lists: dict[bool, set[str]] = {True: set(), False: set()}
    query = select(archive_exception.c.jid, archive_exception.c.keep).where(archive_exception.c.account == account)
    for jid, keep in connection.execute(query):
        lists[bool(keep)].add(jid)
    default = Archiving.ALWAYS if chosen is None or chosen.archive is None else Archiving(chosen.archive)
    return Facts(
        owner,
        frozenset(connection.execute(select(blocked.c.jid).where(blocked.c.account == account)).scalars()),
        ArchivePreferences(default, frozenset(lists[True]), frozenset(lists[False])),
        None if chosen is None or chosen.strangers is None else Strangers(chosen.strangers),
    )


def block(connection: Connection, account: int, jids: Iterable[str]) -> None:
    """Add addresses to the block list; those that are there stay."""
    for jid in jids:
        connection.execute(
            dialect.upsert(connection, blocked).values(account=account, jid=jid).on_conflict_do_nothing()
        )


def unblock(connection: Connection, account: int, jids: Iterable[str] | None) -> None:
    """Take addresses from the block list, or empty it."""
    if jids is None:
        connection.execute(delete(blocked).where(blocked.c.account == account))
        return
    for jid in jids:
        connection.execute(delete(blocked).where(blocked.c.account == account, blocked.c.jid == jid))


def set_archive(connection: Connection, account: int, wanted: ArchivePreferences) -> None:
    """Replace the archive preferences."""
    _choose(connection, account, "archive", wanted.default.value)
    connection.execute(delete(archive_exception).where(archive_exception.c.account == account))
    rows = [{"account": account, "jid": jid, "keep": True} for jid in sorted(wanted.always)]
    rows += [{"account": account, "jid": jid, "keep": False} for jid in sorted(wanted.never - wanted.always)]
    if rows:
        connection.execute(insert(archive_exception), rows)


def set_strangers(connection: Connection, account: int, wanted: Strangers | None) -> None:
    """Choose what becomes of messages from strangers; None is the server's choice."""
    _choose(connection, account, "strangers", None if wanted is None else wanted.value)


def purge(connection: Connection, account: int) -> None:
    """Remove everything an account chose."""
    for table in (blocked, privacy, archive_exception):
        connection.execute(table.delete().where(table.c.account == account))


def _choose(connection: Connection, account: int, column: str, value: str | None) -> None:
    made = dialect.upsert(connection, privacy).values(account=account, **{column: value})
    connection.execute(made.on_conflict_do_update(index_elements=[privacy.c.account], set_={column: value}))
