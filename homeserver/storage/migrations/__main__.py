"""Write revisions from the schema (see the package's docstring)."""

import subprocess
import sys
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from homeserver.storage.migrations import revisions

_VERSIONS = Path(__file__).parent / "versions"


def main(message: str | None) -> None:
    """Without ``message`` the first revision is written anew, with it one is added behind the last."""
    engine = create_engine("sqlite://")
    if message is None:
        for old in _VERSIONS.glob("*.py"):
            old.unlink()
    with engine.begin() as connection:
        config = revisions.configuration(connection)
        number = f"{len(list(_VERSIONS.glob('*.py'))) + 1:04d}"
        if message is not None:
            command.upgrade(config, "head")
        written = command.revision(config, message or "tables", autogenerate=True, rev_id=number)
    for script in written if isinstance(written, list) else [written]:
        if script is not None:
            sys.stdout.write(f"{script.path}\n")
            for words in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
                subprocess.run([sys.executable, "-m", "ruff", *words, script.path], check=False)  # noqa: S603


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
