"""The few places where SQLite and PostgreSQL need different text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from itertools import chain
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Table, and_

_SQLITE_VARIABLES: Final = 32_000
_LARGEST_CHUNK: Final = 512

Row = Sequence[Any]


def is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


class Bulk:
    """One statement over many rows: ``before <rows> after``.

    SQLite gets ``VALUES (..),(..)`` in chunks whose sizes are powers of two, so that few texts exist and each stays
    prepared; PostgreSQL gets one ``unnest`` of arrays, one text for every size (hot_path: the cheapest on each).
    """

    def __init__(self, columns: Sequence[Column[Any]], before: str, after: str = "") -> None:
        self._before = before
        self._after = after
        self._one = "(" + ",".join("?" * len(columns)) + ")"
        limit = min(_LARGEST_CHUNK, _SQLITE_VARIABLES // len(columns))
        self._largest = 1 << (limit.bit_length() - 1)
        self._columns = columns
        self._unnest = ""
        self._values: Callable[[int], str] = lru_cache(maxsize=64)(self._text)

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Execute for ``rows``, each a sequence in the order of the columns. No rows: nothing happens."""
        if not rows:
            return
        if not is_sqlite(connection):
            self._unnest = self._unnest or self._arrays(connection)
            connection.exec_driver_sql(self._unnest, tuple(list(column) for column in zip(*rows, strict=True)))
            return
        execute = _quick_execute(connection)
        start, left = 0, len(rows)
        while left:
            size = self._largest if left >= self._largest else 1 << (left.bit_length() - 1)
            chunk = rows[start : start + size]
            execute(self._values(size), tuple(chain.from_iterable(chunk)))
            start += size
            left -= size

    def _text(self, rows: int) -> str:
        return f"{self._before} VALUES {','.join([self._one] * rows)} {self._after}"

    def _arrays(self, connection: Connection) -> str:
        types = [column.type.compile(dialect=connection.dialect) for column in self._columns]
        arrays = ",".join(f"${place}::{name}[]" for place, name in enumerate(types, start=1))
        return f"{self._before} SELECT * FROM unnest({arrays}) {self._after}"  # noqa: S608


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """A transaction that holds nothing but `Bulk.run`. On SQLite it is the driver's own: SQLAlchemy's costs more than a
    row. Raises what the driver raises."""
    if connection.dialect.driver != "pysqlite":
        with connection.begin():
            yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        driver.rollback()
        raise


def _quick_execute(connection: Connection) -> Callable[[str, tuple[Any, ...]], object]:
    """The driver's own execute where that is sqlite3: SQLAlchemy's costs as much as ten rows."""
    if connection.dialect.driver == "pysqlite":
        driver: Any = connection.connection.driver_connection
        found: Callable[[str, tuple[Any, ...]], object] = driver.execute
        return found
    return connection.exec_driver_sql


def insert(table: Table, columns: Sequence[Column[Any]] | None = None, after: str = "") -> Bulk:
    """A bulk INSERT into ``table``; ``after`` is its ON CONFLICT clause."""
    chosen = list(columns if columns is not None else table.columns)
    names = ",".join(f'"{column.name}"' for column in chosen)
    return Bulk(chosen, f'INSERT INTO "{table.name}" ({names})', after)


def update(table: Table, key: Column[Any], changed: Sequence[Column[Any]]) -> Bulk:
    """A bulk UPDATE of rows found by ``key``: rows are (key, *changed); keys that do not exist are passed over."""
    names = ",".join(["key", *(column.name for column in changed)])
    sets = ",".join(f'"{column.name}" = v."{column.name}"' for column in changed)
    return Bulk(
        [key, *changed],
        f"WITH v({names}) AS (",
        f') UPDATE "{table.name}" SET {sets} FROM v WHERE "{table.name}"."{key.name}" = v.key',  # noqa: S608
    )


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT into ``table`` that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    # The dialect of a connection is loaded; naming both of them would load the other as well.
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)


def greatest(connection: Connection) -> str:
    """The name of the scalar function for the larger of two values."""
    return "max" if is_sqlite(connection) else "greatest"


def starts_with(connection: Connection, column: Column[Any], beginning: str) -> ColumnElement[bool]:
    """Whether a text column starts with a text, letter case included. SQLite finds it by the column's index, which LIKE
    does not use there."""
    if is_sqlite(connection):
        return and_(column >= beginning, column < beginning + "\U0010ffff")
    return column.startswith(beginning, autoescape=True)
