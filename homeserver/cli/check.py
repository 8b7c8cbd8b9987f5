"""`parley check`: looks at configuration, ports, certificates, DNS, database and clock, and says what to do."""

from __future__ import annotations

import asyncio
import ctypes
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from config.checks import is_loopback
from config.settings import CertificateSettings, LogSettings, Settings
from homeserver.cli.accounts import Address, open_accounts
from homeserver.cli.configuration import config_option, settings_or_exit
from homeserver.cli.findings import Finding, Level
from homeserver.cli.records import Record, records_for
from homeserver.listeners import (
    CertificateError,
    Identity,
    ListenError,
    ascii_name,
    holder_of,
    open_sockets,
    read_identity,
)
from homeserver.protocol.jid import JID
from homeserver.services.names import services_below
from homeserver.telemetry import set_up_logging

if TYPE_CHECKING:
    from homeserver.cli.logins import Login

_SOON: Final = timedelta(days=14)
_TIME_ERROR: Final = 5
_DNS_SECONDS: Final = 5.0


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Ask no DNS server; log in through the ports of this machine.")
@click.option(
    "--login", "address", type=Address(), help="Log in as this account through every endpoint; asks for its password."
)
@click.option("--password-stdin", is_flag=True, help="Read that password from standard input.")
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="PEM file of the authority to trust at login.")
def check(config: Path, offline: bool, address: JID | None, password_stdin: bool, ca: Path | None) -> None:
    """Say what is wrong with the set-up and what to do; ends with 1 when something must be done."""
    settings = settings_or_exit(config)
    login = None if address is None else _login(settings, address, password_stdin, ca)
    set_up_logging(LogSettings(level="error"))
    click.echo(f"ok    configuration: {config} is well-formed")
    findings = asyncio.run(_collect(settings, login, offline=offline))
    sys.exit(1 if any(finding.level == "bad" for finding in findings) else 0)


def _login(settings: Settings, address: JID, from_stdin: bool, ca: Path | None) -> Login:
    from homeserver.cli.logins import Login  # the client library is slow to load

    if address.domain not in settings.domains:
        raise click.UsageError(f"{address.domain} is not a domain of this server")
    if from_stdin:
        return Login(address, sys.stdin.readline().rstrip("\r\n"), ca)
    return Login(address, str(click.prompt("Password", hide_input=True)), ca)


async def _collect(settings: Settings, login: Login | None, *, offline: bool) -> list[Finding]:
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        click.echo(str(finding))

    for finding in (*of_folder(settings.data_dir), *of_certificates(settings, datetime.now(UTC))):
        note(finding)
    async for finding in of_ports(settings):
        note(finding)
    async for finding in of_database(settings):
        note(finding)
    note(of_clock())
    if not offline:
        async for finding in of_dns(settings):
            note(finding)
    if login is not None:
        from homeserver.cli.logins import of_logins

        async for finding in of_logins(settings, login, offline=offline):
            note(finding)
    return findings


def of_folder(folder: Path) -> Iterator[Finding]:
    """The data folder: there, writable, private."""
    if not folder.exists():
        yield Finding("note", "data_dir", f"{folder} is not there", "`parley serve` makes it")
    elif not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("bad", "data_dir", f"{folder} cannot be written", "give it to the user that runs the server")
    elif folder.stat().st_mode & 0o007:
        yield Finding("bad", "data_dir", f"{folder} is open to every user of this machine", f"chmod o-rwx {folder}")
    else:
        yield Finding("ok", "data_dir", str(folder))


def of_certificates(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Each certificate: readable, current, trusted; each domain: covered by one."""
    identities: list[Identity] = []
    for files in settings.tls.certificate:
        try:
            identity = read_identity(files)
        except CertificateError as error:
            yield Finding("bad", "certificate", str(error))
            continue
        identities.append(identity)
        yield from _of_certificate(files, identity, now)
    if not settings.tls.certificate:
        return
    for domain in settings.domains:
        for served in (domain, *services_below(settings, domain)):
            name = ascii_name(served)
            if not any(identity.covers(name) for identity in identities):
                level: Level = "bad" if served == domain else "note"
                yield Finding(level, "certificate", f"none is for {name}", "request one that names it")


def _of_certificate(files: CertificateSettings, identity: Identity, now: datetime) -> Iterator[Finding]:
    file = files.certificate_file
    if files.key_file.stat().st_mode & 0o077:
        yield Finding("bad", "certificate", f"{files.key_file} can be read by others", f"chmod 600 {files.key_file}")
    left = identity.expires - now
    if left <= timedelta():
        yield Finding("bad", "certificate", f"{file} has expired", "renew it and send SIGHUP")
    elif left < _SOON:
        yield Finding("bad", "certificate", f"{file} expires in {left.days} days", "renew it and send SIGHUP")
    else:
        yield Finding("ok", "certificate", f"{file} is valid for {left.days} days")
    roots = ssl.create_default_context().get_ca_certs(binary_form=True)
    chain = x509.load_pem_x509_certificates(file.read_bytes())
    name = next((name for name in sorted(identity.names) if not name.startswith("*")), None)
    if not roots or name is None:
        return
    verifier = PolicyBuilder().store(Store([x509.load_der_x509_certificate(root) for root in roots])).time(now)
    try:
        verifier.build_server_verifier(x509.DNSName(name)).verify(chain[0], chain[1:])
    except VerificationError as error:
        text = f"{file} is not trusted by the authorities of this machine ({error})"
        yield Finding(
            "note", "certificate", text, "clients elsewhere need a certificate from a public authority, with its chain"
        )


async def of_ports(settings: Settings) -> AsyncIterator[Finding]:
    """Each port: free, or held by a running server."""
    for listen in settings.listen:
        subject = f"port {listen.port}"
        try:
            for listening in await open_sockets(listen.host, listen.port):
                listening.close()
        except ListenError as error:
            holder = holder_of(listen.port) or ""
            if holder.startswith(("python", "parley")):
                yield Finding("note", subject, f"in use by {holder}", "fine if that is this server")
            else:
                yield Finding("bad", subject, str(error))
        else:
            yield Finding("ok", subject, f"free for {listen.kind}")


async def of_database(settings: Settings) -> AsyncIterator[Finding]:
    """The database: reachable, readable, current."""
    storage = settings.storage
    if storage.url is None and not storage.path.exists():
        yield Finding("note", "database", f"{storage.path} is not there", "`parley serve` makes it")
        return
    try:
        async with open_accounts(settings) as accounts:
            has_accounts = bool(await accounts.listing(None, "", 1))
    except Exception as error:  # noqa: BLE001 - whatever a database may raise is the finding
        remedy = "check [storage] in the configuration, and that the database runs"
        yield Finding(
            "bad", "database", f"cannot be used ({type(error).__name__}: {str(error).splitlines()[:1]})", remedy
        )
        return
    where = "PostgreSQL" if storage.url else str(storage.path)
    if has_accounts:
        yield Finding("ok", "database", where)
    else:
        yield Finding("note", "database", f"{where} has no account", "`parley account add you@example.org` makes one")


def of_clock() -> Finding:
    """Whether the kernel's clock is kept in step (adjtimex(2)); signatures between servers bear five minutes."""
    remedy = "run an NTP client: apt install systemd-timesyncd or chrony"
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (AttributeError, OSError):
        return Finding("note", "clock", "this system does not tell whether it is kept in step", remedy)
    if state == _TIME_ERROR:
        return Finding("note", "clock", "is not kept in step", remedy)
    return Finding("ok", "clock", "is kept in step")


async def of_dns(settings: Settings) -> AsyncIterator[Finding]:
    """The records of each domain that is not for this machine alone."""
    resolver = dns.asyncresolver.Resolver()
    resolver.lifetime = _DNS_SECONDS
    for domain in settings.domains:
        if is_loopback(domain):
            yield Finding("note", "dns", f"{domain} is for this machine alone, not looked up")
            continue
        for record in records_for(settings, domain):
            if record.kind != "AAAA":
                yield await _of_record(resolver, record)


async def _of_record(resolver: dns.asyncresolver.Resolver, record: Record) -> Finding:
    kind = "SRV" if record.kind == "SRV" else "A"
    try:
        answer = await resolver.resolve(f"{record.name}.", kind)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        level: Level = "bad" if record.kind == "A" else "note"
        return Finding(level, "dns", f"{record.name} has no {record.kind} record ({record.purpose})", f"add: {record}")
    except dns.exception.DNSException as error:
        return Finding(
            "note", "dns", f"{record.name} cannot be looked up ({type(error).__name__})", "check the resolver"
        )
    found = sorted(item.to_text() for item in answer)
    if kind == "SRV" and record.value.split()[2:] not in [text.split()[2:] for text in found]:
        return Finding("bad", "dns", f"{record.name} leads to {', '.join(found)}", f"correct it: {record}")
    return Finding("ok", "dns", f"{record.name}: {', '.join(found)}")
