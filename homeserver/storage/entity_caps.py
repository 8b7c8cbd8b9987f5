"""SQL of entity capabilities: proven answers, by the hash that proves them (XEP-0115)."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, delete, select

from homeserver.storage import dialect
from homeserver.storage.schema import entity_caps as table


def note(conn: Connection, algorithm: str, ver: str, interests: Sequence[str], at: float) -> None:
    """All who advertise that hash want notifications of these nodes; learnt at ``at`` (seconds since the epoch)."""
    nodes = msgspec.json.encode(interests).decode()
    made = dialect.upsert(conn, table).values(algorithm=algorithm, ver=ver, nodes=nodes, learnt=at)
    conn.execute(made.on_conflict_do_nothing())


def load(conn: Connection, limit: int) -> list[tuple[str, str, list[str]]]:
    """The newest ``limit`` as hash function, hash and nodes, oldest first; the rest is deleted."""
    rows = conn.execute(select(table).order_by(table.c.learnt.desc(), table.c.ver).limit(limit + 1)).all()
    if len(rows) > limit:
        conn.execute(delete(table).where(table.c.learnt < rows[limit - 1].learnt))
    return [(row.algorithm, row.ver, msgspec.json.decode(row.nodes, type=list[str])) for row in reversed(rows[:limit])]
