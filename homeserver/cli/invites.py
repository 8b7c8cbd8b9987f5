"""`parley invite`: invitations of the operator, and links that set a password."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from config.units import parse_domain, parse_duration
from homeserver.cli.accounts import Address, address_argument, operate
from homeserver.cli.configuration import config_option
from homeserver.domain.accounts import Role
from homeserver.domain.invites import InviteKind
from homeserver.protocol.jid import JID


@click.group()
def invite() -> None:
    """Invite people to an account; make links that set a password."""


@invite.command()
@config_option
@click.option("--domain", default="", help="Where the account will be; the first domain without.")
@click.option("--username", default="", help="The name of the account; free choice without.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.MEMBER.value, show_default=True)
@click.option("--uses", default=1, show_default=True, help="How many people may use it.")
@click.option("--lifetime", default="", help='How long it is valid, such as "3 days".')
@click.option("--by", type=Address(), help="The account that invites; it and the new account become contacts.")
@click.option("--contact-only", is_flag=True, help="With --by: no account, a contact only.")
def create(
    config: Path, domain: str, username: str, role: str, uses: int, lifetime: str, by: JID | None, contact_only: bool
) -> None:
    """Print an invitation: the address of its page, and the one that clients open."""
    if contact_only and by is None:
        raise click.UsageError("--contact-only needs --by")
    try:
        seconds = parse_duration(lifetime) if lifetime else 0.0
        where = parse_domain(domain) if domain else ""
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    wish = {
        "inviter": "" if by is None else by.bare,
        "kind": InviteKind.CONTACT.value if contact_only else "",
        "uses": uses,
        "lifetime": seconds,
        "domain": where,
        "username": username,
        "role": role,
    }
    _show(operate(config, lambda run: run("invite.create", wish)))


@invite.command()
@config_option
@address_argument
def reset(config: Path, address: JID) -> None:
    """Print a link with which the holder of an account sets a new password."""
    _show(operate(config, lambda run: run("invite.reset", {"address": address.bare})))


@invite.command("list")
@config_option
def list_invites(config: Path) -> None:
    """List the operator's open invitations: number, kind, domain, uses left, end."""
    for one in operate(config, lambda run: run("invite.list", {})):
        click.echo(f"{one['id']}\t{one['kind']}\t{one['domain']}\t{one['uses']}\t{_time(one['expires'])}")


@invite.command()
@config_option
@click.argument("number", type=int)
def revoke(config: Path, number: int) -> None:
    """End an invitation of the operator."""
    operate(config, lambda run: run("invite.revoke", {"id": number}))
    click.echo(f"invitation {number} revoked")


def _show(made: dict[str, Any]) -> None:
    click.echo(made["url"])
    if made["uri"]:
        click.echo(made["uri"])
    click.echo(f"number {made['id']}, valid until {_time(made['expires'])}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
