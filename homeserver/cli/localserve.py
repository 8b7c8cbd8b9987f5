"""`parley localserve`: two federated servers on this machine, for a first look and for developers."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import ssl
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import click

from config.settings import LogSettings
from homeserver.cli.certificates import Authority
from homeserver.cli.conversation import converse
from homeserver.cli.demo import HOST, DemoError, Person, Place, Server, make_people, write_place
from homeserver.listeners import ListenError, open_sockets
from homeserver.telemetry import set_up_logging

_DOMAINS: Final = ("alpha.localhost", "beta.localhost")
_PEOPLE: Final = {"alpha.localhost": ("ann", "ada"), "beta.localhost": ("bob", "ben")}
_PORTS_APART: Final = 10
_WRAPPER: Final = Path(__file__).parents[2] / "parley"


@click.command()
@click.option("--one", is_flag=True, help="One server instead of two.")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Keep the data here; thrown away without."
)
@click.option("--port-base", default=15220, show_default=True, type=click.IntRange(1, 65000), help="First port.")
def localserve(one: bool, data: Path | None, port_base: int) -> None:
    """Start two federated servers on loopback addresses, with accounts to try, until Ctrl-C."""
    set_up_logging(LogSettings(level="warning"))
    folder = data or Path(tempfile.mkdtemp(prefix="parley-"))
    folder.mkdir(parents=True, exist_ok=True)
    domains = _DOMAINS[:1] if one else _DOMAINS
    places = [
        Place(domain, folder / domain.partition(".")[0], port_base + number * _PORTS_APART)
        for number, domain in enumerate(domains)
    ]
    try:
        asyncio.run(_run(places, folder))
    except (DemoError, ListenError) as error:
        click.echo(f"parley: {error}", err=True)
        sys.exit(1)
    finally:
        if data is None:
            shutil.rmtree(folder)


async def _run(places: Sequence[Place], folder: Path) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    for place in places:
        for port in (place.xmpp, place.xmpps, place.https):
            for free in await open_sockets(HOST, port):
                free.close()
    work = asyncio.create_task(_serve(places, folder))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        click.echo("\nstopping ...")
        work.cancel()
        await asyncio.wait({work})
    stopped.cancel()
    if not work.cancelled():
        work.result()


async def _serve(places: Sequence[Place], folder: Path) -> None:
    authority = Authority.open(folder)
    ca_file = authority.certificate_file.absolute()
    trust = ssl.create_default_context(cafile=str(ca_file))
    people: dict[str, list[Person]] = {}
    for place in places:
        write_place(place, [peer for peer in places if peer is not place], authority)
        people[place.domain] = await make_people(place, _PEOPLE[place.domain])
    async with AsyncExitStack() as stack:
        servers = [Server(place) for place in places]
        for server in servers:
            stack.push_async_callback(server.stop)
        await asyncio.gather(*(server.start(trust) for server in servers))
        _introduce(places, people, ca_file)
        writer = (places[0], people[places[0].domain][0])
        reader = (places[-1], people[places[-1].domain][0 if len(places) > 1 else 1])
        click.echo("\nA conversation:\n")
        await converse((writer[1], writer[0]), (reader[1], reader[0]), ca_file, lambda line: click.echo(f"  {line}"))
        _commands(places[0], people[places[0].domain][0], reader[1], ca_file)
        click.echo(f"\nLogs: {', '.join(str(place.folder / 'log') for place in places)}. Ctrl-C stops.")
        deaths = [asyncio.create_task(server.died()) for server in servers]
        try:
            await asyncio.wait(deaths, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for death in deaths:
                death.cancel()
        raise DemoError("a server ended by itself; see its log")


def _introduce(places: Sequence[Place], people: dict[str, list[Person]], ca_file: Path) -> None:
    click.echo(f"Certificate authority: {ca_file}")
    for place in places:
        click.echo(f"\n{place.domain} on {HOST}")
        click.echo(f"  XMPP with STARTTLS                      port {place.xmpp}")
        click.echo(f"  XMPP with TLS from the first byte       port {place.xmpps}")
        click.echo(f"  JSON API, WebSocket, federation, docs   {place.url}/docs")
        for person in people[place.domain]:
            click.echo(f"  {person.address:<24} password {person.password}")


def _commands(place: Place, person: Person, to: Person, ca_file: Path) -> None:
    ca, login = shlex.quote(str(ca_file)), shlex.quote(f"{person.address}:{person.password}")
    body = shlex.quote(f'{{"username": "{person.address}", "password": "{person.password}"}}')
    wrapper = shlex.quote(str(_WRAPPER)) if _WRAPPER.exists() else "parley"
    click.echo("\nTo try:\n")
    click.echo(
        f"  echo hello | SSL_CERT_FILE={ca} go-sendxmpp -u {person.address} -p {shlex.quote(person.password)} "
        f"-j {HOST}:{place.xmpp} {to.address}\n"
    )
    click.echo(f"  curl --cacert {ca} -H 'Content-Type: application/json' -d {body} {place.url}/v1/sessions\n")
    click.echo(f"  {wrapper} live --ca {ca} --login {login} {place.url.replace('https', 'wss')}/v1/ws")
