"""`parley queue`: what waits for other servers, in the running server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from homeserver.cli.accounts import operate
from homeserver.cli.configuration import config_option

_domain = click.argument("domain")


@click.group()
def queue() -> None:
    """Look at what waits for other servers, try again, or give up."""


@queue.command("list")
@config_option
def list_queue(config: Path) -> None:
    """List the servers for which something waits or to which something failed."""
    states = operate(config, lambda run: run("queue.list", {}))
    for state in states:
        click.echo(
            f"{state['destination']}\tfrom {state['origin']}\t{state['waiting']} waiting since {_time(state['waiting_since'])}"
            f"\t{state['failures']} failures\tnext try {_time(state['next_try'])}\t{state['last_error'] or ''}".rstrip()
        )
    if not states:
        click.echo("nothing waits")


@queue.command()
@config_option
@_domain
def retry(config: Path, domain: str) -> None:
    """Try a server now instead of waiting."""
    operate(config, lambda run: run("queue.retry", {"domain": domain}))
    click.echo(f"{domain} is tried now")


@queue.command()
@config_option
@_domain
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(config: Path, domain: str, yes: bool) -> None:
    """Give up what waits for a server; the senders get an error."""
    if not yes:
        click.confirm(f"Give up everything that waits for {domain}?", abort=True)
    count = operate(config, lambda run: run("queue.drop", {"domain": domain}))
    click.echo(f"{count} given up")


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
