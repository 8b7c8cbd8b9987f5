"""Opening the store: file modes, one owner, tables up to date."""

import asyncio
import os
import stat
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from homeserver.storage import migrations
from homeserver.storage.database import Database, open_database
from homeserver.storage.migrations import revisions
from homeserver.storage.owner_lock import StoreInUse
from homeserver.storage.schema import metadata
from tests.storage.conftest import Open, Section, add_accounts
from tests.storage.test_group_commit import committed, ids, row, scalar


def difference(connection: Connection) -> list[object]:
    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        # The words of messages: no migration makes them, `homeserver/storage/search.py` does.
        return not (kind in ("table", "index") and str(name).startswith("search_text"))

    options = {"compare_type": True, "target_metadata": metadata, "include_object": ours}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, metadata))


async def test_migrated_tables_equal_the_schema(database: Database) -> None:
    assert await database.write(difference) == []
    assert await database.read(migrations.current) == migrations.head()


def test_the_newest_revision_is_the_one_alembic_finds() -> None:
    with create_engine("sqlite://").connect() as connection:
        scripts = ScriptDirectory.from_config(revisions.configuration(connection))
    assert scripts.get_current_head() == migrations.head()


async def test_opening_again_changes_nothing(opening: Open) -> None:
    async with opening() as database:
        await database.write(add_accounts)
        database.commit.append(row(1))
    async with opening() as database:
        assert database.commit.last_id == 1
        assert await database.read(ids) == [1]


async def test_a_store_of_a_newer_version_is_refused(opening: Open) -> None:
    def pretend(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    async with opening() as database:
        await database.write(pretend)
    with pytest.raises(migrations.StoreTooNew, match="9999"):
        async with opening():
            pass


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def fail(connection: Connection) -> None:
        connection.execute(text("DELETE FROM account"))
        raise LookupError("no")

    before = await database.read(scalar, "SELECT count(*) FROM account")
    with pytest.raises(LookupError):
        await database.write(fail)
    assert await database.read(scalar, "SELECT count(*) FROM account") == before


async def test_a_cancelled_write_leaves_the_store_usable(database: Database) -> None:
    writes = [asyncio.create_task(database.write(scalar, "SELECT 1")) for _ in range(5)]
    await asyncio.sleep(0)
    for write in writes:
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    database.commit.append(row(1))
    assert await committed(database) is None
    async with asyncio.timeout(5):
        assert await database.write(scalar, "SELECT 1") == 1


async def test_a_write_cancelled_under_way_keeps_its_turn(sqlite_section: Section) -> None:
    begun, go_on, order = asyncio.Event(), threading.Event(), list[str]()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(5)
        order.append("write")

    async with open_database(sqlite_section) as database:
        await database.write(add_accounts)
        write = asyncio.create_task(database.write(slow))
        await begun.wait()
        write.cancel()
        database.commit.append(row(1), lambda error: order.append(f"commit {error}"))
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await write
        assert await committed(database) is None
    assert order == ["write", "commit None"]


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await database.write(
            scalar,
            "INSERT INTO credential (account, mechanism, salt, iterations, stored_key, server_key)"
            " VALUES (999, 'SCRAM-SHA-256', '', 1, '', '') RETURNING account",
        )


async def test_files_are_private(sqlite_section: Section) -> None:
    before = os.umask(0)
    try:
        async with open_database(sqlite_section) as database:
            await database.write(add_accounts)
            found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in sqlite_section.path.parent.iterdir()}
    finally:
        os.umask(before)
    assert found == dict.fromkeys(("parley.db", "parley.db-wal", "parley.db-shm", "parley.db.lock"), 384)
    assert stat.S_IMODE(sqlite_section.path.parent.stat().st_mode) == 0o700


SECOND = """
import asyncio, sys
from pathlib import Path
from homeserver.storage.database import open_database
from homeserver.storage.owner_lock import StoreInUse
from tests.storage.conftest import Section

async def main():
    try:
        async with open_database(Section(Path(sys.argv[1]))):
            print("opened")
    except StoreInUse as error:
        print(error.pid)

asyncio.run(main())
"""


async def test_one_process_owns_the_message_path(sqlite_section: Section) -> None:
    async with open_database(sqlite_section):
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SECOND, str(sqlite_section.path), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await second.communicate()
        assert out.decode().split() == [str(os.getpid())]
        with pytest.raises(StoreInUse, match=str(os.getpid())):
            async with open_database(sqlite_section):
                pass
    async with open_database(sqlite_section):
        pass


async def test_the_command_line_works_beside_the_server(opening: Open) -> None:
    async with opening() as server, opening(owner=False) as command_line:
        await command_line.write(add_accounts)
        server.commit.append(row(1))
        assert await committed(server) is None
        assert await command_line.read(ids) == [1]
        with pytest.raises(RuntimeError, match="message path"):
            _ = command_line.commit


async def test_synchronous_is_full_unless_told(sqlite_section: Section, tmp_path: Path) -> None:
    async with open_database(sqlite_section) as database:
        assert await database.write(scalar, "PRAGMA synchronous") == 2
        assert await database.read(scalar, "PRAGMA journal_mode") == "wal"
    async with open_database(Section(tmp_path / "other.db", synchronous="normal")) as database:
        assert await database.write(scalar, "PRAGMA synchronous") == 1


async def test_the_command_line_does_not_change_tables_under_a_running_server(sqlite_section: Section) -> None:
    def age(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))

    async with open_database(sqlite_section) as server:
        await server.write(age)
        with pytest.raises(StoreInUse):
            async with open_database(sqlite_section, owner=False):
                pass
