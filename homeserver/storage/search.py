"""The words of messages: FTS5 on SQLite, a tsvector with a GIN index on PostgreSQL.

Text is cut into words by ``homeserver/domain/search.py``; both databases only compare them. The owners of a message are
words of their own, so a search costs what the owner has, not what the server has. Messages are taken from the log in
bulk, behind `search_state`; who removes or replaces a message calls `forget` in the same transaction.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, column, select, text, update

from homeserver.domain.messages import Kind, Treatment
from homeserver.domain.search import Phrase, Query
from homeserver.storage import dialect
from homeserver.storage.schema import log, search_state

_TABLES: Final = {
    "sqlite": (
        "CREATE VIRTUAL TABLE IF NOT EXISTS search_text USING fts5(words, owners, tokenize = 'ascii', columnsize = 0)",
    ),
    "postgresql": (
        "CREATE TABLE IF NOT EXISTS search_text (id bigint PRIMARY KEY, words tsvector NOT NULL)",
        "CREATE INDEX IF NOT EXISTS search_text_words ON search_text USING gin (words)",
    ),
}
_ADD: Final = {
    "sqlite": "INSERT INTO search_text (rowid, words, owners) VALUES (:id, :words, :owners)",
    "postgresql": "INSERT INTO search_text (id, words) VALUES (:id, CAST(CAST(:words AS text) AS tsvector))"
    " ON CONFLICT (id) DO NOTHING",
}
_FORGET: Final = {
    "sqlite": "DELETE FROM search_text WHERE rowid IN :ids",
    "postgresql": "DELETE FROM search_text WHERE id IN :ids",
}
_HOLDS: Final = {
    "sqlite": "SELECT rowid AS id FROM search_text WHERE search_text MATCH :words",
    "postgresql": "SELECT id FROM search_text WHERE words @@ CAST(CAST(:words AS text) AS tsquery)",
}
_MOST_WORDS: Final = 4000
_CHUNK: Final = 200


class Fresh(NamedTuple):
    """A message that has no words yet."""

    id: int
    owners: tuple[int, ...]
    payload: bytes


class Words(NamedTuple):
    """A message with its words."""

    id: int
    owners: tuple[int, ...]
    words: list[str]


def ensure(connection: Connection) -> None:
    """Make the index if the store has none; its form depends on the database, so no migration does."""
    for statement in _TABLES[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    if connection.execute(select(search_state.c.id)).first() is None:
        statement = dialect.upsert(connection, search_state).values(id=1, through=0)
        connection.execute(statement.on_conflict_do_nothing())


def fresh(connection: Connection, limit: int) -> tuple[int, list[Fresh], bool]:
    """The oldest archived messages without words: up to which id, those with a body, and whether more follow."""
    low = connection.execute(select(search_state.c.through)).scalar_one()
    query = select(log.c.id, log.c.sender, log.c.recipient, log.c.kind, log.c.treatment, log.c.payload)
    rows = connection.execute(query.where(log.c.id > low).order_by(log.c.id).limit(limit)).all()
    found = [
        Fresh(row.id, tuple({owner for owner in (row.sender, row.recipient) if owner is not None}), bytes(row.payload))
        for row in rows
        if row.treatment & (Treatment.ARCHIVE | Treatment.RETRACTED) == Treatment.ARCHIVE
        and row.kind in (Kind.CHAT, Kind.NORMAL)
        and b"<body" in row.payload
    ]
    return (rows[-1].id if rows else low), found, len(rows) == limit


def add(connection: Connection, through: int, found: Sequence[Words]) -> None:
    """Keep the words of these messages, less those that were removed or taken back since, and the place reached."""
    _lock(connection)
    low = connection.execute(select(search_state.c.through)).scalar_one()
    for start in range(0, len(found), _CHUNK):
        part = found[start : start + _CHUNK]
        query = select(log.c.id).where(
            log.c.id.in_([words.id for words in part]),
            log.c.treatment.bitwise_and(Treatment.RETRACTED.value) == 0,
        )
        there = set(connection.execute(query).scalars())
        rows = [_row(connection, words) for words in part if words.id in there and words.id > low]
        if rows:
            connection.execute(text(_ADD[connection.dialect.name]), rows)
    if through > low:
        connection.execute(update(search_state).values(through=through))


def forget(connection: Connection, ids: Sequence[int]) -> None:
    """These messages cannot be found any more."""
    _lock(connection)
    statement = text(_FORGET[connection.dialect.name]).bindparams(bindparam("ids", expanding=True))
    connection.execute(statement, {"ids": list(ids)})


def holds(connection: Connection, id_: ColumnElement[int], owner: int, query: Query) -> ColumnElement[bool]:
    """The condition that the owner's message ``id_`` holds everything that ``query`` asks for."""
    made = _match(owner, query) if dialect.is_sqlite(connection) else _tsquery(owner, query)
    found = text(_HOLDS[connection.dialect.name]).bindparams(bindparam("words", made, unique=True))
    return id_.in_(found.columns(column("id")))


def _lock(connection: Connection) -> None:
    """On PostgreSQL `add` and `forget` take turns; SQLite has one writer."""
    if not dialect.is_sqlite(connection):
        connection.execute(select(search_state.c.id).with_for_update())


def _row(connection: Connection, found: Words) -> dict[str, Any]:
    words = found.words[:_MOST_WORDS]
    if dialect.is_sqlite(connection):
        return {"id": found.id, "words": " ".join(words), "owners": " ".join(map(str, found.owners))}
    places: dict[str, list[str]] = {}
    for place, word in enumerate(words, start=1):
        places.setdefault(word, []).append(str(place))
    # A word may stand at 256 places (tsvector's limit); owners have a sign that no word has.
    lexemes = [f"'{word}':{','.join(where[:255])}" for word, where in places.items()]
    return {"id": found.id, "words": " ".join([*lexemes, *(f"'@{owner}'" for owner in found.owners)])}


def _match(owner: int, query: Query) -> str:
    parts = [f'words : "{" ".join(phrase.words)}"{" *" if phrase.prefix else ""}' for phrase in query.phrases]
    return " AND ".join([f'owners : "{owner}"', *parts])


def _tsquery(owner: int, query: Query) -> str:
    return " & ".join([f"'@{owner}'", *map(_follow, query.phrases)])


def _follow(phrase: Phrase) -> str:
    quoted = [f"'{word}'" for word in phrase.words]
    if phrase.prefix:
        quoted[-1] += ":*"
    return f"({' <-> '.join(quoted)})"
