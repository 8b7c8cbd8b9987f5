"""Every setting of the server: one frozen dataclass per section, one field per key.

A field is declared with `setting(default, sentence)`: a setting without a sentence cannot be declared. The sentence goes
into `homeserver.example.toml` and `docs/configuration.md` (see `describe.py`); `load.py` turns a file into `Settings`.
After loading, durations are float seconds, sizes are int bytes, relative paths are absolute.

A class of the server takes its section, never `Settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from config.declare import REQUIRED, section, setting, tables
from config.feature_settings import (
    BroadcastSettings,
    ComponentSettings,
    ContactAddressSettings,
    ExternalServiceSettings,
    InviteSettings,
    PrivacySettings,
    ProfileSettings,
    PubSubSettings,
    PushSettings,
    UploadSettings,
)
from config.units import Bytes, Domain, Duration, Label, Rate, parse_duration, parse_rate, parse_size


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where messages, accounts and queues are kept: one SQLite file, or PostgreSQL."""

    path: Path = setting(Path("parley.db"), "SQLite file; not used when `url` is set.", in_data_dir=True)
    url: str | None = setting(
        None,
        'PostgreSQL instead of SQLite, such as "postgresql://parley@localhost/parley".',
        secret=True,
    )
    synchronous: Literal["full", "normal"] = setting(
        "full",
        "`full`: an acknowledged message survives a power cut. `normal`: it survives the end of the process only.",
    )
    readers: int = setting(2, "Threads that read SQLite, or connections that read PostgreSQL.", at_least=1, at_most=64)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """One port. `xmpp` is XMPP for clients with STARTTLS, `xmpps` is XMPP with TLS from the first byte, `https` carries
    the JSON API, WebSockets and federation, `component` is for external components: TLS from the first byte, or cleartext
    on a loopback address."""

    kind: Literal["xmpp", "xmpps", "https", "component"] = setting(REQUIRED, "What is spoken on the port.")
    host: str = setting("*", "Address to listen on; `*` is every interface, IPv4 and IPv6.")
    port: int = setting(REQUIRED, "TCP port.", at_least=0, at_most=65535)
    tls: Literal["required", "direct", "optional"] = setting(
        "required",
        "`required`: nothing without TLS. `direct`: TLS from the first byte, which `xmpps`, `https` and `component` do anyway. "
        "`optional`: cleartext is served; on `xmpp` STARTTLS is offered beside it. Loopback addresses only.",
    )
    cleartext_override: bool = setting(
        False,
        'Allows `tls = "optional"` on an address that is not loopback. Passwords then cross the network in clear.',
    )


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """One certificate. Its domains are read from the certificate; the right one is chosen by the name the peer asks for."""

    certificate_file: Path = setting(REQUIRED, "PEM file with the certificate and its chain.", reloadable=True)
    key_file: Path = setting(REQUIRED, "PEM file with the private key.", reloadable=True)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates of this server. The files are read again on SIGHUP."""

    minimum: Literal["1.2", "1.3"] = setting("1.2", "Lowest TLS version that is accepted.", reloadable=True)
    certificate: tuple[CertificateSettings, ...] = tables(
        "Certificates; the first one is used when the peer names no domain."
    )


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Accounts and passwords."""

    registration: Literal["closed", "invite", "open"] = setting(
        "closed", "Who may make an account: the operator only, holders of an invitation, or everyone.", reloadable=True
    )
    scram_iterations: int = setting(
        10_000, "Rounds of the password derivation of new passwords.", at_least=4096, at_most=1_000_000, reloadable=True
    )
    password_min: int = setting(8, "Fewest characters of a new password.", at_least=1, at_most=128, reloadable=True)
    password_max: int = setting(256, "Most characters of a password.", at_least=64, at_most=1024, reloadable=True)
    directory: Literal["members", "off"] = setting(
        "off", "Who may search for accounts of the own domain by the beginning of their name."
    )
    deletion_grace: Duration = setting(
        parse_duration("7 days"),
        "An account that its owner removed is deleted after this time and can be restored before; 0 deletes at once.",
        reloadable=True,
    )


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Tokens that stand for a password."""

    access_lifetime: Duration = setting(parse_duration("15 minutes"), "How long an access token is valid.", at_least=1)
    refresh_lifetime: Duration = setting(
        parse_duration("60 days"), "How long a device that does nothing stays logged in.", at_least=1
    )
    login_lifetime: Duration = setting(
        parse_duration("21 days"),
        "How long an XMPP client that stays away can log in without the password; 0 gives such tokens to nobody.",
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What one address, account or connection may use. Rates are buckets: the number is also the burst."""

    off_on_loopback: bool = setting(False, "No rate limits for peers on a loopback address.", reloadable=True)
    logins_per_address: Rate = setting(parse_rate("30 per minute"), "Failed logins from one address.", reloadable=True)
    logins_per_account: Rate = setting(parse_rate("10 per minute"), "Failed logins to one account.", reloadable=True)
    registrations_per_address: Rate = setting(
        parse_rate("5 per hour"), "New accounts from one address.", reloadable=True
    )
    requests_per_address: Rate = setting(
        parse_rate("120 per 10 seconds"), "JSON API requests without a token from one address.", reloadable=True
    )
    requests_per_account: Rate = setting(
        parse_rate("600 per 10 seconds"), "JSON API requests of one account.", reloadable=True
    )
    searches_per_account: Rate = setting(
        parse_rate("30 per minute"), "Searches of one account in the directory.", reloadable=True
    )
    stanzas_per_account: Rate = setting(
        parse_rate("2000 per 10 seconds"),
        "Stanzas of one account; above it the server reads more slowly.",
        reloadable=True,
    )
    bytes_per_account: Rate = setting(
        parse_rate("50000000 per 10 seconds"),
        "Bytes that the clients of one account send; above it the server reads more slowly.",
        reloadable=True,
    )
    stanzas_per_peer: Rate = setting(
        parse_rate("20000 per 10 seconds"),
        "Stanzas from one other server; above it requests are put off.",
        reloadable=True,
    )
    presence_per_account: Rate = setting(
        parse_rate("300 per minute"), "Changes of presence that one account tells its contacts.", reloadable=True
    )
    subscriptions_per_account: Rate = setting(
        parse_rate("300 per hour"), "Contact requests to one account; others are dropped.", reloadable=True
    )
    subscriptions_per_sender: Rate = setting(
        parse_rate("500 per hour"), "Contact requests from one account or one remote address.", reloadable=True
    )
    subscriptions_per_peer: Rate = setting(
        parse_rate("3000 per hour"), "Contact requests from one other server; others are dropped.", reloadable=True
    )
    reports_per_account: Rate = setting(
        parse_rate("30 per hour"), "Reports of abuse from one account.", reloadable=True
    )
    unauthenticated_per_address: int = setting(
        100, "Connections of one address that have not logged in.", at_least=1, reloadable=True
    )
    unauthenticated_bytes: Bytes = setting(
        parse_size("10 kB"), "What a connection may send before it has logged in.", at_least=4096
    )
    unauthenticated_time: Duration = setting(
        parse_duration("60 seconds"),
        "A connection that has not logged in by then is closed.",
        at_least=1,
    )
    stanza_bytes: Bytes = setting(
        parse_size("256 KiB"), "Largest stanza, and largest message of the JSON API.", at_least=10_000
    )
    idle_time: Duration = setting(
        parse_duration("30 minutes"),
        "A client that says nothing for so long is asked whether it is there; 0 asks nobody.",
    )
    sessions_per_account: int = setting(50, "Sessions of one account at the same time.", at_least=1, reloadable=True)
    unsent_bytes: Bytes = setting(
        parse_size("4 MiB"),
        "Output kept in memory for a connection that does not read.",
        at_least=65_536,
    )
    resume_time: Duration = setting(
        parse_duration("10 minutes"), "How long a lost session can be resumed; 0 turns resumption off."
    )
    resume_stanzas: int = setting(5000, "Stanzas kept for a session until the client confirms them.", at_least=10)
    resume_bytes: Bytes = setting(
        parse_size("4 MiB"),
        "Bytes of those stanzas; past either bound the session ends.",
        at_least=65_536,
    )


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The message archive of every account."""

    page_default: int = setting(
        50, "Messages on a page when the client does not say.", at_least=1, at_most=100, reloadable=True
    )
    page_max: int = setting(100, "Most messages on a page.", at_least=1, at_most=1000, reloadable=True)
    waiting: int = setting(
        50_000, "Messages that may wait for an account that reads nothing; more are refused.", at_least=1
    )
    retention: Duration = setting(0.0, "Messages older than this are deleted; 0 keeps them for ever.", reloadable=True)


@dataclass(frozen=True, slots=True)
class ContactSettings:
    """Contact lists. What is too much is refused; a stranger's request beyond the bound is dropped."""

    items: int = setting(2000, "Contacts of one account.", at_least=1, at_most=100_000)
    groups: int = setting(64, "Groups one contact is in.", at_least=1, at_most=1000)
    name: int = setting(1023, "Characters of a contact's name or a group's name.", at_least=1, at_most=10_000)
    requests: int = setting(500, "Contact requests that wait for one account's answer.", at_least=1, at_most=100_000)
    request_bytes: Bytes = setting(
        parse_size("16 KiB"), "A larger contact request is kept without what its sender wrote.", at_least=256
    )


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A server that is reached in a fixed way instead of being looked up."""

    domain: Domain = setting(REQUIRED, "Domain of the other server.", reloadable=True)
    url: str | None = setting(
        None,
        "Base URL of its federation API; without it it is looked up. Plain `http://` only to a loopback address.",
        reloadable=True,
    )
    ca_file: Path | None = setting(None, "PEM file: its certificate must come from this authority.", reloadable=True)
    keys: tuple[str, ...] = setting(
        (), "Its signing keys, each as key-id:base64; without them they are fetched from it.", reloadable=True
    )


@dataclass(frozen=True, slots=True)
class FederationSettings:
    """Messages to and from other servers."""

    enabled: bool = setting(True, "Exchange messages with other servers.")
    url: str | None = setting(
        None, "Base URL under which other servers reach the federation API; `http.public_url` is used without it."
    )
    queue_lifetime: Duration = setting(
        parse_duration("7 days"),
        "A message that could not be delivered by then goes back as an error.",
        at_least=1,
        at_most=28 * 86400,
    )
    backoff_min: Duration = setting(parse_duration("1 second"), "First wait after a failed delivery.", at_least=0.01)
    backoff_max: Duration = setting(parse_duration("1 hour"), "Longest wait between two tries.", at_least=0.01)
    wake: bool = setting(True, "Try a waiting server at once when it contacts us.")
    timeout: Duration = setting(parse_duration("30 seconds"), "Time for one request to another server.", at_least=0.1)
    batch_stanzas: int = setting(500, "Most stanzas in one request.", at_least=1, at_most=1000)
    batch_bytes: Bytes = setting(parse_size("1 MiB"), "Most bytes in one request.", at_least=262_144)
    concurrency: int = setting(32, "Servers that are written to at the same time.", at_least=1, at_most=10_000)
    allow: tuple[Domain, ...] = setting((), "Only these domains may federate; empty means all.", reloadable=True)
    deny: tuple[Domain, ...] = setting((), "These domains and their sub-domains may not federate.", reloadable=True)
    allow_private_addresses: bool = setting(
        False, "Connect to servers whose address is private, loopback or link-local."
    )
    peer: tuple[PeerSettings, ...] = tables("Servers that are pinned.")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The JSON API and everything else on `https` listeners."""

    public_url: str | None = setting(
        None, "Base URL under which clients reach this server; `https://` and the first domain without it."
    )
    cors_origins: tuple[str, ...] = setting(
        (), 'Web pages that may use the JSON API, such as "https://app.example.org".'
    )
    trusted_hosts: tuple[str, ...] = setting(
        (), "Values of the Host header that are served besides the domains and `public_url`."
    )
    request_bytes: Bytes = setting(
        parse_size("1 MiB"), "Largest body of a JSON API request.", at_least=65_536, at_most=64 * 1024**2
    )


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Groups."""

    subdomain: Label = setting(
        "groups",
        "Name under each domain for groups: the domain's key document and `parley check` include it. Groups are not there yet.",
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Log lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severity that is written.", reloadable=True
    )
    format: Literal["json", "text"] = setting(
        "text", "One JSON object or one readable line per event.", reloadable=True
    )


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """OpenMetrics numbers under `/metrics`."""

    allow: tuple[str, ...] = setting(("127.0.0.0/8", "::1/128"), "Networks that may read `/metrics`; others get 404.")


DEFAULT_LISTEN: Final = (
    ListenSettings(kind="xmpp", port=5222),
    ListenSettings(kind="xmpps", port=5223),
    ListenSettings(kind="https", port=443),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration file."""

    domains: tuple[Domain, ...] = setting(REQUIRED, 'Domains that are served, such as ["example.org"].')
    data_dir: Path = setting(Path("data"), "Folder for the database, keys and files.")
    listen: tuple[ListenSettings, ...] = tables(
        "Ports; without any: `xmpp` on 5222, `xmpps` on 5223 and `https` on 443.", DEFAULT_LISTEN
    )
    tls: TlsSettings = section(TlsSettings)
    storage: StorageSettings = section(StorageSettings)
    accounts: AccountSettings = section(AccountSettings)
    tokens: TokenSettings = section(TokenSettings)
    limits: LimitSettings = section(LimitSettings)
    archive: ArchiveSettings = section(ArchiveSettings)
    contacts: ContactSettings = section(ContactSettings)
    federation: FederationSettings = section(FederationSettings)
    http: HttpSettings = section(HttpSettings)
    groups: GroupSettings = section(GroupSettings)
    upload: UploadSettings = section(UploadSettings)
    push: PushSettings = section(PushSettings)
    external_service: tuple[ExternalServiceSettings, ...] = tables(
        "STUN and TURN servers for calls; without any, calls between networks often fail."
    )
    privacy: PrivacySettings = section(PrivacySettings)
    pubsub: PubSubSettings = section(PubSubSettings)
    profiles: ProfileSettings = section(ProfileSettings)
    component: tuple[ComponentSettings, ...] = tables(
        "External components; they connect to a listener of the kind `component`."
    )
    broadcasts: BroadcastSettings = section(BroadcastSettings)
    invites: InviteSettings = section(InviteSettings)
    contact_addresses: ContactAddressSettings = section(ContactAddressSettings)
    log: LogSettings = section(LogSettings)
    metrics: MetricsSettings = section(MetricsSettings)
