"""`parley quickstart`: a configuration that works, keys, the first account, and the DNS records to add."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import click

from config.load import load_settings
from config.settings import LogSettings, Settings
from config.units import parse_domain
from homeserver.cli.accounts import generate_password, open_accounts
from homeserver.cli.certificates import Authority
from homeserver.cli.configuration import DEFAULT_FILE
from homeserver.cli.records import records_for
from homeserver.domain.accounts import Role
from homeserver.domain.errors import DomainError
from homeserver.listeners import ascii_name
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.telemetry import set_up_logging

_CONFIGURATION: Final = """\
# Parley. Every key is described in docs/configuration.md; `parley check` says what is wrong.
domains = [{domain}]
data_dir = "data"

[[tls.certificate]]
certificate_file = {certificate}
key_file = {key}
"""


@click.command()
@click.argument("address")
@click.option(
    "--dir",
    "folder",
    default=Path(),
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write; here by default.",
)
@click.option(
    "--certificate", type=click.Path(path_type=Path, exists=True), help="Certificate you have (PEM, whole chain)."
)
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="Its private key.")
@click.option("--http-port", default=443, show_default=True, help="Port of the JSON API and of federation.")
def quickstart(address: str, folder: Path, certificate: Path | None, key: Path | None, http_port: int) -> None:
    """Set up a server for the domain of ADDRESS, whose account becomes the administrator."""
    jid, domain = _address(address)
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key belong together")
    file = folder / DEFAULT_FILE
    if file.exists():
        raise click.ClickException(f"{file} is there already; remove it to begin anew")
    folder.mkdir(parents=True, exist_ok=True)
    is_own = certificate is None or key is None
    if certificate is None or key is None:
        certificate, key = _own_certificate(folder, domain)
    text = _CONFIGURATION.format(
        domain=json.dumps(domain, ensure_ascii=False), certificate=_quoted(certificate), key=_quoted(key)
    )
    if http_port != 443:
        text += _listeners(http_port)
    file.write_text(text, encoding="utf-8")
    settings = load_settings(file)
    password = generate_password()
    set_up_logging(LogSettings(level="warning"))
    try:
        asyncio.run(_add(settings, jid, password))
    except DomainError as error:
        file.unlink()
        raise click.ClickException(error.text) from error
    _tell(settings, file, jid, password, is_own=is_own)


async def _add(settings: Settings, jid: JID, password: str) -> None:
    async with open_accounts(settings) as accounts:
        await accounts.register(jid.local, jid.domain, password, admin=True, role=Role.ADMIN)


def _address(text: str) -> tuple[JID, str]:
    try:
        jid = JID.parse(text)
        if not jid.local or jid.resource:
            raise click.UsageError(f"{text!r} is not of the form you@example.org")
        return jid, parse_domain(jid.domain)
    except (InvalidJID, ValueError) as error:
        raise click.UsageError(f"{text!r} is not an address: {error}") from error


def _own_certificate(folder: Path, domain: str) -> tuple[Path, Path]:
    certificates = folder / "certificates"
    authority = Authority.open(certificates)
    certificate, key = certificates / f"{ascii_name(domain)}.pem", certificates / f"{ascii_name(domain)}.key"
    authority.issue([domain, f"groups.{domain}", f"upload.{domain}"], certificate, key)
    return certificate, key


def _listeners(http_port: int) -> str:
    kinds = (("xmpp", 5222), ("xmpps", 5223), ("https", http_port))
    return "".join(f'\n[[listen]]\nkind = "{kind}"\nport = {port}\n' for kind, port in kinds)


def _quoted(path: Path) -> str:
    return json.dumps(str(path.absolute()), ensure_ascii=False)


def _tell(settings: Settings, file: Path, jid: JID, password: str, *, is_own: bool) -> None:
    click.echo(f"Wrote {file} and {settings.data_dir}.\n")
    click.echo(f"Administrator: {jid.bare}\nPassword:      {password}\n")
    if is_own:
        click.echo(
            "The certificate is from an authority of this machine; other people's clients do not trust it. Get one for\n"
            f"{', '.join(f'{label}{jid.domain}' for label in ('', 'groups.', 'upload.'))}, for example with certbot or lego,\n"
            f"name its files under [[tls.certificate]] in {file}, and send SIGHUP after each renewal.\n"
        )
    click.echo("DNS records to add:\n")
    for record in records_for(settings, jid.domain):
        click.echo(f"  {record}    ; {record.purpose}")
    click.echo(
        f"\nOther servers find this one by https://{ascii_name(jid.domain)}/.well-known/host-meta.json. If another web server has\n"
        f"port 443 of {ascii_name(jid.domain)}, let it pass that path on to this server.\n"
    )
    click.echo(f"Next: parley check --config {file}, then parley serve --config {file}")
