"""Whether the store works, and how large it is."""

from sqlalchemy import Connection, text

from homeserver.storage import dialect
from homeserver.storage.schema import commit_mark

_PROBE = "probe"


def answer(connection: Connection) -> None:
    """Do nothing, which takes a store that can be read."""
    connection.execute(text("SELECT 1"))


def probe(connection: Connection) -> None:
    """Write something and take it back, which takes a store that can be written."""
    connection.execute(commit_mark.delete().where(commit_mark.c.writer == _PROBE))
    connection.execute(commit_mark.insert().values(writer=_PROBE, batch=0))
    connection.execute(commit_mark.delete().where(commit_mark.c.writer == _PROBE))


def size(connection: Connection) -> int:
    """Bytes of the SQLite file without its log, or of the PostgreSQL database."""
    if dialect.is_sqlite(connection):
        query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        query = "SELECT pg_database_size(current_database())"
    return int(connection.execute(text(query)).scalar_one())
