"""Each module can be imported first, and the command line starts quickly."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("homeserver", "federation", "client_api", "config")
NOT_MODULES = ("migrations",)
START_SECONDS = 0.5
NOT_AT_START = {
    "alembic": "a store at the newest revision needs no migration",
    "asyncpg": "only with PostgreSQL",
    "sqlalchemy.dialects.postgresql": "only with PostgreSQL",
    "sqlalchemy.ext.asyncio": "only with PostgreSQL",
    "sqlalchemy.orm": "no module uses it",
    "slixmpp": "a client, for `demo` and `live`",
    "trustme": "tests and `localserve`",
    "homeserver.cli.localserve": "another command",
}
"""Modules that cost time and that a server on SQLite does not need to start."""

STARTED = """
import asyncio, sys
from pathlib import Path
import homeserver.cli.serve, homeserver.app.server
from homeserver.storage.database import open_database
from tests.storage.conftest import Section

async def main():
    async with open_database(Section(Path(sys.argv[1]))):
        print(" ".join(set(sys.modules) & set(sys.argv[2:])))

asyncio.run(main())
"""
SCRIPT = """
import importlib, sys
for name in sys.argv[1:]:
    before = set(sys.modules)
    try:
        importlib.import_module(name)
    except BaseException as error:
        sys.exit(f"{name}: {error!r}")
    # Only our own modules go: what libraries register cannot be registered twice.
    for loaded in set(sys.modules) - before:
        if loaded.partition(".")[0] in ("homeserver", "federation", "client_api", "config"):
            del sys.modules[loaded]
"""


def test_every_module_imports_alone() -> None:
    names = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if path.name not in ("__init__.py", "__main__.py") and not set(NOT_MODULES) & set(parts):
                names.append(".".join(parts))
    done = subprocess.run([sys.executable, "-c", SCRIPT, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_quickly() -> None:
    command = [sys.executable, "-m", "homeserver", "--help"]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    assert min(times) < START_SECONDS


def test_a_server_on_sqlite_loads_only_what_it_needs(tmp_path: Path) -> None:
    loaded = []
    for _ in range(2):
        command = [sys.executable, "-c", STARTED, str(tmp_path / "parley.db"), *NOT_AT_START]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        loaded.append(set(done.stdout.split()))
    assert "alembic" in loaded[0], "the first start makes the tables"
    assert loaded[1] == set()
