"""Alembic, which runs the revisions that a store lacks."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configuration(connection: Connection) -> Config:
    """Alembic's settings; ``connection`` is the one to migrate through."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Run every revision that the store lacks. Raises `alembic.util.CommandError`."""
    command.upgrade(configuration(connection), "head")
