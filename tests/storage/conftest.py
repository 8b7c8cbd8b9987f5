"""Every storage test runs on SQLite and on a private PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from homeserver.storage.database import Database, open_database
from tests.kit.postgres import Cluster, PostgresMissing, cluster

Open = Callable[..., AbstractAsyncContextManager[Database]]


@dataclass(frozen=True)
class Section:
    """A storage section as the settings give it."""

    path: Path
    url: str | None = None
    synchronous: str = "full"
    readers: int = 2


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One server for all tests of the run."""
    try:
        running = cluster()
        found = running.__enter__()
    except PostgresMissing as error:
        pytest.skip(f"PostgreSQL tests not run: {error}")
    try:
        yield found
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def sqlite_section(tmp_path: Path) -> Section:
    return Section(tmp_path / "data" / "parley.db")


@pytest.fixture
def postgres_section(postgres: Cluster, tmp_path: Path) -> Iterator[Section]:
    name = f"test_{uuid4().hex[:12]}"
    yield Section(tmp_path / "unused.db", postgres.url(name))
    postgres.drop(name)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def section(request: pytest.FixtureRequest) -> Section:
    found: Section = request.getfixturevalue(f"{request.param}_section")
    return found


@pytest.fixture
def opening(section: Section) -> Open:
    """Open the store of this test, again and again if need be: ``async with opening() as database``."""
    return partial(open_database, section)


@pytest.fixture
async def database(opening: Open) -> AsyncIterator[Database]:
    async with opening() as found:
        await found.write(add_accounts)
        yield found


def add_accounts(connection: Any, names: int = 9) -> None:
    """Accounts 1 to ``names``: u1@example.org and so on."""
    for number in range(1, names + 1):
        connection.exec_driver_sql(
            "INSERT INTO account (id, jid, domain, state, role, created)"
            f" VALUES ({number}, 'u{number}@example.org', 'example.org', 0, 'member', 0)"
        )
