"""The option `--config`, and how commands end when the configuration cannot be used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from config.load import SettingsError, load_settings
from config.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_FILE: Final = Path("parley.toml")


def config_option(command: F) -> F:
    """Adds `--config FILE`, given to the command as `config: Path`; PARLEY_CONFIG and ./parley.toml stand in for it."""
    option = click.option(
        "--config",
        envvar="PARLEY_CONFIG",
        default=DEFAULT_FILE,
        show_default=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="Configuration file.",
    )
    return option(command)


def settings_or_exit(path: Path) -> Settings:
    """The settings of the file; otherwise says on standard error what is wrong and ends the process (EX_CONFIG)."""
    try:
        return load_settings(path)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(os.EX_CONFIG)
