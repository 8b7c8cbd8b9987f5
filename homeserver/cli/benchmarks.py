"""`parley bench`: measure whole servers of this source tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

_ROOT: Final = Path(__file__).parents[2]


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure CPU, latency and memory; `parley bench --help` lists the options."""
    if not (_ROOT / "tests" / "benchmarks").is_dir():
        raise click.ClickException("there are no benchmarks here; run ./parley bench in the source tree")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    sys.exit(subprocess.run(command, cwd=_ROOT, env=environment, check=False).returncode)  # noqa: S603
