"""`parley account`: the operator's work on accounts, beside a running server or without one."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from config.settings import LogSettings, Settings
from homeserver.cli.configuration import config_option, settings_or_exit
from homeserver.domain.accounts import Role
from homeserver.domain.errors import DomainError
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.services.accounts import Accounts
from homeserver.services.clock import SystemClock
from homeserver.services.control import ask_server, is_serving
from homeserver.services.invites import Invites
from homeserver.services.operations import Arguments, Operations
from homeserver.services.roles import Roles
from homeserver.storage.database import open_database
from homeserver.telemetry import set_up_logging

T = TypeVar("T")
Run = Callable[[str, Arguments], Awaitable[Any]]
"""Runs one operation of `homeserver/services/operations.py`."""
More = Callable[[Settings], Mapping[str, Callable[[Arguments], Awaitable[Any]]]]
"""Makes the operations of one command, for when no server runs."""
_PASSWORD_BYTES = 12


class Address(click.ParamType[JID]):
    """A bare address on the command line."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> JID:
        try:
            address = JID.parse(str(value))
        except InvalidJID as error:
            self.fail(f"{value!r} is not an address: {error}", param, ctx)
        if not address.local or address.resource:
            self.fail(f"{value!r} is not of the form name@domain", param, ctx)
        return address


address_argument = click.argument("address", type=Address())
_password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[tuple[Accounts, Invites]]:
    """Accounts and invitations of a configuration, opened beside a server that may be running."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    clock = SystemClock()
    public_url = settings.http.public_url or f"https://{settings.domains[0]}"
    async with open_database(settings.storage, owner=False) as database:
        accounts = Accounts(database, settings.accounts, clock, settings.domains)
        await accounts.start()
        try:
            yield accounts, Invites(database, accounts, Roles(accounts), clock, settings.invites, public_url)
        finally:
            accounts.close()


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """The accounts of a configuration, as in `open_services`."""
    async with open_services(settings) as (accounts, _):
        yield accounts


def generate_password() -> str:
    """A password that nobody chose: 96 bits of randomness."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


@asynccontextmanager
async def open_operations(settings: Settings, more: More) -> AsyncIterator[Run]:
    """What runs operations: the server, or this process when no server runs, which also has those of ``more`` then.

    Raises `DomainError` as they do.
    """
    if not await is_serving(settings.data_dir):
        async with open_services(settings) as (accounts, invites):
            yield Operations(accounts, invites, None, more(settings)).run
        return

    async def ask(verb: str, arguments: Arguments) -> Any:
        answer = await ask_server(settings.data_dir, verb, arguments)
        if answer.error is not None:
            raise click.ClickException(answer.error)
        return answer.result

    yield ask


def operate(config: Path, work: Callable[[Run], Awaitable[T]], more: More = lambda _: {}) -> T:
    """Lets `work` run operations, those of ``more`` included; a refusal ends the command with its text."""
    settings = settings_or_exit(config)
    set_up_logging(LogSettings(level="warning"))

    async def main() -> T:
        async with open_operations(settings, more) as run:
            return await work(run)

    try:
        return asyncio.run(main())
    except DomainError as error:
        raise click.ClickException(error.text or type(error).__name__) from error
    except OSError as error:
        store = "PostgreSQL" if settings.storage.url else settings.storage.path
        raise click.ClickException(f"{store}: {error}") from error


@click.group()
def account() -> None:
    """Add, list, disable or delete accounts; set passwords and roles."""


@account.command()
@config_option
@click.argument("address", type=Address(), required=False)
@_password_stdin
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.MEMBER.value, show_default=True)
@click.option(
    "--from-file", type=click.File("r"), help='Many accounts: lines "name@domain password"; - reads standard input.'
)
def add(config: Path, address: JID | None, password_stdin: bool, role: str, from_file: TextIO | None) -> None:
    """Make an account. Without a terminal and without --password-stdin the password is made and printed."""
    if (address is None) == (from_file is None):
        raise click.UsageError("give an address, or --from-file")
    if from_file is not None:
        wanted, is_made = _listed(from_file), False
    else:
        assert address is not None
        password, is_made = _new_password(password_stdin)
        wanted = [(address, password)]

    async def work(run: Run) -> None:
        for jid, secret in wanted:
            await run("account.add", {"address": jid.bare, "password": secret, "role": role})
            click.echo(f"account {jid.bare} made" + (f", password {secret}" if is_made else ""))

    operate(config, work)


def _listed(lines: TextIO) -> list[tuple[JID, str]]:
    """Addresses and passwords, one account a line; empty lines are passed over."""
    found = []
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text:
            continue
        name, space, password = text.partition(" ")
        try:
            jid = JID.parse(name)
        except InvalidJID as error:
            raise click.ClickException(f"line {number}: {name!r} is not an address: {error}") from error
        if not jid.local or jid.resource or not space:
            raise click.ClickException(f'line {number} is not of the form "name@domain password"')
        found.append((jid, password))
    return found


@account.command("list")
@config_option
@click.option("--domain", help="Only accounts of this domain.")
def list_accounts(config: Path, domain: str | None) -> None:
    """List addresses, with number, state and role."""

    async def work(run: Run) -> None:
        for found in await run("account.list", {"domain": domain}):
            click.echo("\t".join(str(found[column]) for column in ("address", "id", "state", "role")))

    operate(config, work)


@account.command()
@config_option
@address_argument
@_password_stdin
def password(config: Path, address: JID, password_stdin: bool) -> None:
    """Set a new password; all devices of the account must log in again."""
    new, is_made = _new_password(password_stdin)

    operate(config, lambda run: run("account.password", {"address": address.bare, "password": new}))
    click.echo(f"password of {address.bare} changed" + (f" to {new}" if is_made else ""))


@account.command()
@config_option
@address_argument
@click.argument("role", type=click.Choice([role.value for role in Role]))
def role(config: Path, address: JID, role: str) -> None:
    """Say what an account may do: admin, operator, member, or guest (nothing beyond this server)."""

    operate(config, lambda run: run("account.role", {"address": address.bare, "role": role}))
    click.echo(f"account {address.bare} is {role}")


@account.command()
@config_option
@address_argument
@click.option("--undo", is_flag=True, help="Let the account log in again.")
def disable(config: Path, address: JID, undo: bool) -> None:
    """Keep an account from logging in; what it has is kept."""

    verb = "account.enable" if undo else "account.disable"
    operate(config, lambda run: run(verb, {"address": address.bare}))
    click.echo(f"account {address.bare} {'enabled' if undo else 'disabled'}")


@account.command()
@config_option
@address_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(config: Path, address: JID, yes: bool) -> None:
    """End an account for good; its name stays taken."""
    if not yes:
        click.confirm(f"End {address.bare} for good?", abort=True)

    operate(config, lambda run: run("account.delete", {"address": address.bare}))
    click.echo(f"account {address.bare} deleted")


@account.command()
@config_option
@address_argument
def restore(config: Path, address: JID) -> None:
    """Bring back an account that its owner removed, while its grace period lasts."""

    operate(config, lambda run: run("account.restore", {"address": address.bare}))
    click.echo(f"account {address.bare} restored")


@account.command()
@config_option
@address_argument
def devices(config: Path, address: JID) -> None:
    """List the devices of an account: number, protocol, when it was seen last, name and software."""

    async def work(run: Run) -> None:
        for found in await run("account.devices", {"address": address.bare}):
            seen = datetime.fromtimestamp(found["seen"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            words = (found["id"], found["protocol"], seen, found["name"] or "-", found["software"] or "-")
            click.echo("\t".join(printable(word) for word in words))

    operate(config, work)


def printable(text: str) -> str:
    """What a client said of itself, without characters that move the cursor or the columns."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _new_password(from_stdin: bool) -> tuple[str, bool]:
    """A password, and whether it was made here."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True)), False
    return generate_password(), True
