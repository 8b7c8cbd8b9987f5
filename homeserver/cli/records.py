"""The DNS records that a domain of this server needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config.settings import Settings
from homeserver.listeners import ascii_name
from homeserver.services.names import services_below


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `value` is a target host for SRV as `priority weight port target`, an address for A and AAAA."""

    name: str
    kind: str
    value: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.name}. IN {self.kind} {self.value}"


def records_for(settings: Settings, domain: str) -> Iterator[Record]:
    """What to add for one domain, as a zone file has it; addresses are left for the operator to fill in."""
    host = ascii_name(domain)
    yield Record(host, "A", "<IPv4 address of this server>", "the server itself")
    yield Record(host, "AAAA", "<IPv6 address of this server>", "the server itself, if it has IPv6")
    for name in services_below(settings, domain):
        yield Record(ascii_name(name), "CNAME", f"{host}.", f"service {name.removesuffix(f'.{domain}')}")
    services = {"xmpp": "_xmpp-client._tcp", "xmpps": "_xmpps-client._tcp"}
    for listen in settings.listen:
        if listen.kind in services and listen.tls != "optional":
            yield Record(f"{services[listen.kind]}.{host}", "SRV", f"0 5 {listen.port} {host}.", "XMPP clients")
