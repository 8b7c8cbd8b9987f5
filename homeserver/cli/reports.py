"""`parley reports`: what users reported as spam or abuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from config.settings import Settings
from homeserver.cli.accounts import operate
from homeserver.cli.configuration import config_option
from homeserver.services.clock import SystemClock
from homeserver.services.operations import Arguments
from homeserver.services.reports import ReportVerbs
from homeserver.storage.database import open_database

_number = click.argument("number", type=int)


@click.group()
def reports() -> None:
    """List, read and close reports of spam and abuse."""


@reports.command("list")
@config_option
@click.option("--all", "with_closed", is_flag=True, help="Closed ones too.")
def list_reports(config: Path, with_closed: bool) -> None:
    """List the newest reports: number, time, who reports whom, reason, number of messages."""
    found = operate(config, lambda run: run("report.list", {"all": with_closed}), _without_server)
    for report in found:
        closed = "" if report["resolved"] is None else f"\tclosed {_time(report['resolved'])}"
        click.echo(
            f"{report['id']}\t{_time(report['at'])}\t{_plain(report['reporter'])} reports {_plain(report['jid'])}"
            f"\t{_plain(report['reason'])}\t{report['messages']} messages{closed}"
        )
    if not found:
        click.echo("no reports")


@reports.command()
@config_option
@_number
def show(config: Path, number: int) -> None:
    """Show one report with its messages."""
    report = operate(config, lambda run: run("report.show", {"number": number}), _without_server)
    click.echo(f"report {report['id']} of {_time(report['at'])}")
    click.echo(f"{_plain(report['reporter'])} reports {_plain(report['jid'])} for {_plain(report['reason'])}")
    allowed = [who for who, key in (("the server it came from", "origin"), ("others", "third_party")) if report[key]]
    click.echo(f"may be passed on to: {', '.join(allowed) or 'nobody'}")
    for line in report["words"].splitlines():
        click.echo(f"    {_plain(line)}")
    for message in report["messages"]:
        click.echo(f"{_time(message['at'] / 1_000_000)}\t{_plain(message['stanza'])}")
    if report["resolved"] is not None:
        click.echo(f"closed {_time(report['resolved'])}: {_plain(report['note'])}")


@reports.command()
@config_option
@_number
@click.option("--note", default="", help="What was done about it.")
def resolve(config: Path, number: int, note: str) -> None:
    """Close a report."""
    operate(config, lambda run: run("report.resolve", {"number": number, "note": note}), _without_server)
    click.echo(f"report {number} closed")


def _without_server(settings: Settings) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
    """The operations for when no server runs; each opens the store for itself."""

    async def ask(name: str, arguments: Arguments) -> Any:
        async with open_database(settings.storage, owner=False) as database:
            return await getattr(ReportVerbs(database, SystemClock()), name)(arguments)

    return {f"report.{name}": partial(ask, name) for name in ("list", "show", "resolve")}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(text: str) -> str:
    """What strangers wrote, without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
