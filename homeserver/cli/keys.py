"""`parley keys`: the keys with which this server signs what it sends to others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from config.settings import Settings
from federation.key_operations import KeyOperations, Verbs
from federation.node import open_keys
from homeserver.cli.accounts import operate
from homeserver.cli.configuration import config_option
from homeserver.services.clock import SystemClock
from homeserver.services.names import services_below

_domain = click.argument("domain")


def _offline(settings: Settings) -> Verbs:
    clock = SystemClock()
    names = {domain: services_below(settings, domain) for domain in settings.domains}
    own = open_keys(names, settings.data_dir, clock)
    return KeyOperations(own, clock).verbs()


_MEANING = {
    "signs": "signs now",
    "valid": "still valid",
    "comes": "signs later",
    "ended": "ended",
}


@click.group()
def keys() -> None:
    """List, rotate or revoke the signing keys of federation."""


@keys.command("list")
@config_option
@click.option("--domain", help="Only keys of this domain.")
def list_keys(config: Path, domain: str | None) -> None:
    """List keys. The last column is what another operator writes into `keys` to pin this server."""
    for key in operate(config, lambda run: run("keys.list", {"domain": domain}), _offline):
        click.echo(
            f"{key['domain']}\t{key['id']}\t{_MEANING[key['state']]}\tfrom {_time(key['not_before'])}"
            f"\tto {_time(key['not_after'])}\t{key['id']}:{key['public']}"
        )


@keys.command()
@config_option
@_domain
def rotate(config: Path, domain: str) -> None:
    """Publish a new key; it signs when no other server can have the old list of keys any more."""
    made = operate(config, lambda run: run("keys.rotate", {"domain": domain}), _offline)
    click.echo(f"{domain} has the new key {made}; `parley keys list` says from when it signs")


@keys.command()
@config_option
@_domain
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(config: Path, domain: str, key: str, yes: bool) -> None:
    """End a key now, because somebody else may have it."""
    if not yes:
        click.confirm(f"End {key}? What it signed and is still under way is refused and sent again.", abort=True)
    signs = operate(config, lambda run: run("keys.revoke", {"domain": domain, "key": key}), _offline)
    click.echo(f"{key} ended; {domain} signs with {signs}")


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
