"""Rules of the configuration that concern more than one key."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from config.feature_settings import ExternalServiceSettings
from config.lines import KeyPath
from config.schema import show_found
from config.settings import ListenSettings, PeerSettings, Settings

_ED25519_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken rule: the key to change, what it holds and what it may hold."""

    path: KeyPath
    found: str
    expected: str


def is_loopback(host: str) -> bool:
    """Whether a host text can only mean this machine: a loopback address, `localhost` or a name below it (RFC 6761 s6.3)."""
    name = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def faults_of(settings: Settings) -> Iterator[Fault]:
    """Broken rules of otherwise well-formed settings."""
    yield from _domains(settings)
    for position, listen in enumerate(settings.listen):
        yield from _listen(("listen", position), listen)
    if not settings.tls.certificate and any(needs_certificate(listen) for listen in settings.listen):
        yield Fault(("tls", "certificate"), "nothing", "a certificate, because a listener uses TLS")
    yield from _ordered(settings)
    storage_url = settings.storage.url
    if storage_url is not None and not storage_url.startswith(("postgresql://", "postgres://")):
        yield Fault(("storage", "url"), "a value that is not shown", 'a URL that begins with "postgresql://"')
    yield from _url(("federation", "url"), settings.federation.url)
    yield from _url(("http", "public_url"), settings.http.public_url)
    yield from _url(("upload", "public_url"), settings.upload.public_url)
    for position, peer in enumerate(settings.federation.peer):
        yield from _peer(("federation", "peer", position), peer, settings.domains)
    for position, service in enumerate(settings.external_service):
        yield from _external_service(("external_service", position), service)
    for origin in settings.http.cors_origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            yield Fault(("http", "cors_origins"), show_found(origin), 'origins such as "https://app.example.org"')
    for address in settings.privacy.report_to:
        local, at, domain = address.partition("@")
        if not (local and at and domain) or set("@/ ") & set(domain):
            yield Fault(("privacy", "report_to"), show_found(address), 'addresses such as "admin@example.org"')
    for network in settings.metrics.allow:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield Fault(("metrics", "allow"), show_found(network), 'networks such as "10.0.0.0/8"')


def needs_certificate(listen: ListenSettings) -> bool:
    """Whether the listener cannot work without a certificate."""
    return listen.kind == "xmpps" or listen.tls != "optional"


def _domains(settings: Settings) -> Iterator[Fault]:
    if not settings.domains:
        yield Fault(("domains",), "an empty list", "at least one domain")
    served = list(settings.domains)
    for label in (settings.groups.subdomain, settings.upload.subdomain, settings.pubsub.subdomain):
        served += [f"{label}.{domain}" for domain in settings.domains]
    served += [component.domain for component in settings.component]
    for position, component in enumerate(settings.component):
        if not component.domain.endswith(tuple(f".{domain}" for domain in settings.domains)):
            path: KeyPath = ("component", position, "domain")
            yield Fault(path, show_found(component.domain), "a name below one of `domains`")
        if not component.secret:
            yield Fault(("component", position, "secret"), "nothing", "a secret that the component knows as well")
    twice = sorted({domain for domain in served if served.count(domain) > 1})
    if twice:
        expected = "names that differ; sub-domains of services count as well"
        yield Fault(("domains",), f"{', '.join(twice)} twice", expected)


def _listen(path: KeyPath, listen: ListenSettings) -> Iterator[Fault]:
    if listen.kind == "xmpp" and listen.tls == "direct":
        yield Fault((*path, "tls"), '"direct"', '"required" or "optional"; TLS from the first byte is kind "xmpps"')
    if listen.kind == "xmpps" and listen.tls == "optional":
        yield Fault((*path, "tls"), '"optional"', '"direct"; TLS begins with the first byte on kind "xmpps"')
    if listen.tls == "optional" and not listen.cleartext_override and not is_loopback(listen.host):
        expected = 'a loopback address such as "127.0.0.1" with tls = "optional", or cleartext_override = true'
        yield Fault((*path, "host"), show_found(listen.host), expected)


def _ordered(settings: Settings) -> Iterator[Fault]:
    accounts, archive, federation = settings.accounts, settings.archive, settings.federation
    if accounts.password_min > accounts.password_max:
        yield Fault(("accounts", "password_min"), str(accounts.password_min), "at most `accounts.password_max`")
    if archive.page_default > archive.page_max:
        yield Fault(("archive", "page_default"), str(archive.page_default), "at most `archive.page_max`")
    if federation.backoff_min > federation.backoff_max:
        yield Fault(("federation", "backoff_min"), f"{federation.backoff_min:g} s", "at most `federation.backoff_max`")


def _url(path: KeyPath, url: str | None) -> Iterator[Fault]:
    if url is None:
        return
    expected = 'an "https://" URL without query; "http://" only to a loopback address'
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        yield Fault(path, show_found(url), expected)
        return
    is_allowed = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not is_allowed or not host or parts.query or parts.fragment or parts.username is not None:
        yield Fault(path, show_found(url), expected)


def _external_service(path: KeyPath, service: ExternalServiceSettings) -> Iterator[Fault]:
    if not re.fullmatch(r"[\w.:-]{1,255}", service.host):
        yield Fault((*path, "host"), show_found(service.host), "a host name or an IP address")
    if service.type in ("turn", "turns") and not service.secret:
        yield Fault((*path, "secret"), "nothing", "the secret of the TURN server, which relays for known clients only")


def _peer(path: KeyPath, peer: PeerSettings, domains: tuple[str, ...]) -> Iterator[Fault]:
    if peer.domain in domains:
        yield Fault((*path, "domain"), show_found(peer.domain), "a domain that is not served here")
    yield from _url((*path, "url"), peer.url)
    for key in peer.keys:
        key_id, _, encoded = key.rpartition(":")
        try:
            size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if not key_id or size != _ED25519_KEY_BYTES:
            expected = "Ed25519 public keys as key-id:base64, 32 bytes, URL-safe alphabet"
            yield Fault((*path, "keys"), show_found(key), expected)
