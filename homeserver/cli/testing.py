"""`parley test`: what the tests need from outside, and the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

_ROOT: Final = Path(__file__).parents[2]
_SOME_FAILED: Final = 1
"""What pytest ends with when tests failed."""
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True, slots=True)
class Need:
    """A program from outside: the Debian package, and patterns of files of which one shows that it is there."""

    package: str
    patterns: tuple[str, ...]

    def is_there(self) -> bool:
        """Whether the tests will find it."""
        return any(
            shutil.which(pattern) if "/" not in pattern else any(Path("/").glob(pattern.lstrip("/")))
            for pattern in self.patterns
        )


NEEDS: Final = (
    Need("prosody", ("prosody",)),
    Need("go-sendxmpp", ("go-sendxmpp",)),
    Need("coturn", ("turnserver",)),
    Need("postgresql", ("postgres", "/usr/lib/postgresql/*/bin/postgres")),
)
HEAVY_NEEDS: Final = (
    Need("profanity", ("profanity",)),
    Need("chromium", ("chromium",)),
    Need("npm", ("npm",)),
    Need("libfaketime", ("/usr/lib/*/faketime/libfaketime.so.1",)),
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--all", "with_heavy", is_flag=True, help="Add the heavy suites: storms, interoperation, browsers.")
@click.option("--install", is_flag=True, help="Install with apt what is missing (as root this is the default).")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(with_heavy: bool, install: bool, pytest_arguments: tuple[str, ...]) -> None:
    """Run the tests; further arguments go to pytest."""
    if not (_ROOT / "tests").is_dir():
        raise click.ClickException("there are no tests here; run ./parley test in the source tree")
    needs = NEEDS + HEAVY_NEEDS if with_heavy else NEEDS
    missing = [need.package for need in needs if not need.is_there()]
    if missing and (install or os.geteuid() == 0):
        install_packages(missing)
        missing = [need.package for need in needs if not need.is_there()]
    if missing:
        click.echo(
            f"parley: not installed: {' '.join(missing)}; tests that need them are skipped, --install installs them",
            err=True,
        )
    marks = [] if with_heavy else ["-m", "not heavy"]
    if pytest_arguments:
        sys.exit(_pytest([*marks, *pytest_arguments]))
    workers = str(max(2, os.cpu_count() or 2))
    # Timings mean something only when nothing else runs: the benchmarks come after the rest, alone.
    rest = [*marks, "-q", "--ignore", "tests/benchmarks", "tests"]
    code = _pytest([*rest, "-n", workers, "--dist", "loadfile"])
    if code == _SOME_FAILED:
        # Real servers beside each other are slow now and then; what fails alone too is broken.
        click.echo("parley: the tests that failed above run once more, alone", err=True)
        code = _pytest([*rest, "--last-failed", "--last-failed-no-failures", "none"])
    codes = [code, _pytest([*marks, "-q", "tests/benchmarks"])]
    # pytest ends with 5 when a folder holds no test.
    sys.exit(next((code for code in codes if code not in (0, 5)), 0))


def install_packages(packages: list[str]) -> None:
    """Installs Debian packages; no service is started by that. A failure is told, the tests go on without them."""
    apt = shutil.which("apt-get")
    if apt is None:
        click.echo("parley: no apt-get here, nothing installed", err=True)
        return
    become_root = [] if os.geteuid() == 0 else ["sudo"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    click.echo(f"parley: installing {' '.join(packages)}", err=True)
    with services_refused(become_root):
        for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(  # noqa: S603 - fixed program, fixed package names
                [*become_root, apt, *arguments], env=environment, stdout=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                click.echo(f"parley: apt-get {arguments[0]} failed", err=True)


@contextlib.contextmanager
def services_refused(become_root: list[str], policy: Path = _POLICY) -> Iterator[None]:
    """While it lasts, installing a package starts no service (policy-rc.d answers 101: forbidden); what was there before
    comes back."""
    kept = policy.with_name(policy.name + ".parley")

    def run(*command: str, text: str = "") -> None:
        subprocess.run([*become_root, *command], input=text.encode(), stdout=subprocess.DEVNULL, check=True)  # noqa: S603

    had_one = policy.exists()
    if had_one:
        run("mv", str(policy), str(kept))
    try:
        run("tee", str(policy), text="#!/bin/sh\nexit 101\n")
        run("chmod", "755", str(policy))
        yield
    finally:
        run("rm", "-f", str(policy))
        if had_one:
            run("mv", str(kept), str(policy))


def _pytest(arguments: list[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=_ROOT, env=environment, check=False).returncode  # noqa: S603
