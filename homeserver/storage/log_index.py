"""From the message log to the entries of its owners.

The log is appended without any index by owner, because live indexes cost more than the rows. On SQLite the entries are
filled in bulk, about every two thousand rows or once a second, and until then a `Tail` in memory answers for them. On
PostgreSQL, where several nodes may write, they are filled in the transaction that appends the rows, and no tail exists.
See docs/decisions/0001-mailbox-layout.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection


class LogRow(NamedTuple):
    """One message in the log; the columns of `schema.log` in their order.

    ``sender`` and ``recipient`` are ids of local accounts that own a copy, ``remote`` the bare JID of a side that is
    no local account. ``at`` is in microseconds.
    """

    id: int
    at: int
    sender: int | None
    recipient: int | None
    remote: str | None
    kind: int
    treatment: int
    stanza_id: str | None
    origin_id: str | None
    payload: bytes


Waiting = tuple[int, int | str | None]
"""A log id and the peer: a local account id or a bare JID."""


class View(NamedTuple):
    """What one read of one owner's mailbox needs from memory, taken on the loop before the read begins."""

    through: int
    """Entries of the table count up to this id, ``tail`` holds those above it."""
    tail: Sequence[Waiting]
    settling: int = 0
    """A position on its way to the table, or 0."""


EVERYTHING: Final = View(through=2**62, tail=())
"""The view where every durable row has its entries."""


class Tail:
    """Durable rows of the log that have no entries yet, by owner. Used on the loop only."""

    def __init__(self, through: int = 0) -> None:
        self.through = through
        self.size = 0
        self.last = through
        self._open: defaultdict[int, list[Waiting]] = defaultdict(list)
        self._sealed: list[tuple[int, int, dict[int, list[Waiting]]]] = []

    def add(self, rows: Iterable[LogRow]) -> None:
        """Take the rows of a commit, in the order of their ids."""
        owners, size, id_ = self._open, 0, self.last
        for id_, _, sender, recipient, remote, _, treatment, _, _, _ in rows:
            if not treatment & 3:
                continue
            size += 1
            if sender is not None and treatment & 1:
                owners[sender].append((id_, recipient if recipient is not None else remote))
            if recipient is not None and (recipient != sender or not treatment & 1):
                owners[recipient].append((id_, sender if sender is not None else remote))
        self.size += size
        self.last = id_

    def seal(self) -> int:
        """Close what is there now for one filling step and return its highest id."""
        self._sealed.append((self.last, self.size - sum(size for _, size, _ in self._sealed), self._open))
        self._open = defaultdict(list)
        return self.last

    def drop(self, through: int) -> None:
        """Forget rows up to ``through``, a value of `seal`: they have entries now."""
        while self._sealed and self._sealed[0][0] <= through:
            self.size -= self._sealed.pop(0)[1]
        self.through = through

    def view(self, owner: int, settling: int = 0) -> View:
        """A copy for a reader in a thread."""
        found: list[Waiting] = []
        for _, _, owners in self._sealed:
            found.extend(owners.get(owner, ()))
        found.extend(self._open.get(owner, ()))
        return View(self.through, found, settling)


_ADDRESSES: Final = """
INSERT INTO address (jid)
SELECT DISTINCT COALESCE(l.remote, '') AS jid FROM log l
WHERE {rows} AND (l.sender IS NULL OR l.recipient IS NULL) AND l.treatment & 3 <> 0
  AND NOT EXISTS (SELECT 1 FROM address known WHERE known.jid = COALESCE(l.remote, ''))
ORDER BY jid ON CONFLICT (jid) DO NOTHING
"""

_ENTRIES: Final = """
INSERT INTO entry (owner, id, peer)
SELECT owner, id, COALESCE(local, (SELECT -d.id FROM address d WHERE d.jid = COALESCE(fresh.remote, ''))) FROM (
  SELECT l.sender AS owner, l.id AS id, l.recipient AS local, l.remote AS remote FROM log l
  WHERE {rows} AND l.sender IS NOT NULL AND l.treatment & 1 <> 0
  UNION ALL
  SELECT l.recipient, l.id, l.sender, l.remote FROM log l
  WHERE {rows} AND l.recipient IS NOT NULL AND l.treatment & 3 <> 0
    AND (l.sender IS NULL OR l.sender <> l.recipient OR l.treatment & 1 = 0)
) AS fresh ORDER BY owner, id
"""

_LEAD: Final = """
UPDATE log_state SET lead = found.lead FROM (SELECT MAX(l.id - l.at) AS lead FROM log l WHERE {rows}) AS found
WHERE log_state.lead < found.lead
"""


def fill(connection: Connection, through: int) -> None:
    """Give entries to every row above ``log_state.indexed_through`` up to ``through`` (SQLite)."""
    low = connection.exec_driver_sql("SELECT indexed_through FROM log_state").scalar_one()
    _fill(connection, f"l.id > {int(low)} AND l.id <= {int(through)}", ())
    connection.exec_driver_sql(f"UPDATE log_state SET indexed_through = {int(through)}")  # noqa: S608


def fill_ids(connection: Connection, ids: Sequence[int]) -> None:
    """Give entries to the rows with these ids (PostgreSQL)."""
    _fill(connection, "l.id = ANY ($1::bigint[])", (list(ids),))


def _fill(connection: Connection, rows: str, parameters: tuple[Any, ...]) -> None:
    for text in (_ADDRESSES, _ENTRIES, _LEAD):
        connection.exec_driver_sql(text.format(rows=rows), parameters)


def fill_rest(connection: Connection, step: int = 20_000) -> bool:
    """Fill up to ``step`` rows that an earlier process left without entries (SQLite); true when none are left."""
    low = int(connection.exec_driver_sql("SELECT indexed_through FROM log_state").scalar_one())
    high = connection.exec_driver_sql(
        f"SELECT MAX(id) FROM (SELECT id FROM log WHERE id > {low} ORDER BY id LIMIT {int(step)}) AS next"  # noqa: S608
    ).scalar_one()
    if high is None:
        return True
    fill(connection, int(high))
    return False


def last_id(connection: Connection) -> int:
    """The highest id of the log, 0 when it is empty."""
    return int(connection.exec_driver_sql("SELECT COALESCE(MAX(id), 0) FROM log").scalar_one())


def ensure_state(connection: Connection) -> None:
    """Make the one row of ``log_state`` if the store is new."""
    connection.exec_driver_sql(
        "INSERT INTO log_state (id, indexed_through, lead) VALUES (1, 0, 0) ON CONFLICT DO NOTHING"
    )
