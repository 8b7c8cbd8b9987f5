"""The settings of single features: uploads, push, calls and the like. What every server needs is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from config.declare import REQUIRED, setting
from config.units import Bytes, ContactUri, Domain, Duration, Label, parse_duration, parse_size


@dataclass(frozen=True, slots=True)
class ContactAddressSettings:
    """Whom people write to about this server; shown in service discovery. Each is a list of addresses."""

    abuse: tuple[ContactUri, ...] = setting((), "For reports of abuse.")
    admin: tuple[ContactUri, ...] = setting((), "Who runs the server.")
    feedback: tuple[ContactUri, ...] = setting((), "For opinions on the service.")
    sales: tuple[ContactUri, ...] = setting((), "For business with the organisation.")
    security: tuple[ContactUri, ...] = setting((), "For reports of security problems.")
    status: tuple[ContactUri, ...] = setting((), "Where the state of the service is shown.")
    support: tuple[ContactUri, ...] = setting((), "For help.")


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Uploaded files (XEP-0363). They are kept in `data_dir/uploads`."""

    subdomain: Label = setting("upload", "Name under each domain for the upload service: `parley check` includes it.")
    enabled: bool = setting(True, "Take files. Without it nothing is offered, and files that are there are not served.")
    public_url: str | None = setting(
        None,
        "Base URL of files, best under a host name of its own; files are then served under that name only. Without it "
        "`http.public_url`.",
    )
    max_bytes: Bytes = setting(parse_size("100 MiB"), "Largest file.", at_least=1, reloadable=True)
    account_bytes: Bytes = setting(
        parse_size("1 GiB"), "All files of one account together.", at_least=1, reloadable=True
    )
    account_daily_bytes: Bytes = setting(
        parse_size("500 MiB"), "What one account may upload in a day.", at_least=1, reloadable=True
    )
    slots_per_account: int = setting(
        100, "Permissions to upload that one account has asked for and not used.", at_least=1, reloadable=True
    )
    uploads: int = setting(64, "Uploads at the same time.", at_least=1, at_most=10_000, reloadable=True)
    retention: Duration = setting(
        parse_duration("90 days"),
        "Files older than this are deleted; 0 keeps them for ever. A file gets its time when it comes.",
        reloadable=True,
    )
    reserve: Bytes = setting(
        parse_size("1 GiB"), "Room on the disk that uploads leave free for everything else.", reloadable=True
    )


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """What accounts let others do, and reports of abuse."""

    strangers: Literal["off", "mark", "refuse"] = setting(
        "off",
        "What becomes of messages from somebody who is no contact and was never written to, where the account did not "
        "choose: `off` nothing, `mark` they come marked, `refuse` they do not come.",
    )
    blocked: int = setting(1000, "Addresses one account may block.", at_least=1, at_most=100_000)
    archive_exceptions: int = setting(
        1000, "Addresses in the archive preferences of one account.", at_least=1, at_most=100_000
    )
    report_messages: int = setting(20, "Messages that are kept with one report.", at_least=0, at_most=1000)
    report_retention: Duration = setting(
        parse_duration("180 days"), "Reports older than this are deleted; 0 keeps them for ever."
    )
    report_to: tuple[str, ...] = setting(
        (), 'Addresses that get a message about each report, such as ["admin@example.org"].'
    )


@dataclass(frozen=True, slots=True)
class InviteSettings:
    """Invitations: to an account here, to become a contact, or both."""

    allow: Literal["members", "admins"] = setting(
        "members", "Who may invite: all but guests, or admins and operators only.", reloadable=True
    )
    lifetime: Duration = setting(
        parse_duration("7 days"), "An invitation that was not used by then is void.", at_least=60, reloadable=True
    )
    longest_lifetime: Duration = setting(
        parse_duration("30 days"), "Longest validity that may be asked for.", at_least=60, reloadable=True
    )
    reset_lifetime: Duration = setting(
        parse_duration("1 day"), "How long a link that sets a new password is valid.", at_least=60, reloadable=True
    )
    most_uses: int = setting(
        100, "How often one invitation may be used at most.", at_least=1, at_most=100_000, reloadable=True
    )
    open_per_account: int = setting(
        20, "Invitations of one account that are open at a time.", at_least=1, at_most=10_000, reloadable=True
    )


@dataclass(frozen=True, slots=True)
class PubSubSettings:
    """Publish-subscribe: what accounts publish for their contacts, and a service under each domain."""

    subdomain: Label = setting("pubsub", "Name under each domain for the publish-subscribe service.")
    creators: Literal["members", "operators", "nobody"] = setting(
        "members", "Who may make nodes at the service: every account but guests, operators only, or nobody."
    )
    nodes: int = setting(
        300, "Nodes of one account, and nodes of one creator at the service.", at_least=1, at_most=10_000
    )
    service_nodes: int = setting(5000, "Nodes at the service of one domain.", at_least=1, at_most=100_000)
    items: int = setting(
        5000, 'Items of one node; it is what "max" means in its configuration.', at_least=1, at_most=100_000
    )
    item_bytes: Bytes = setting(parse_size("192 KiB"), "Largest item.", at_least=1024)
    account_bytes: Bytes = setting(
        parse_size("32 MiB"), "Items of one account, or of one node at the service.", at_least=65_536
    )
    subscribers: int = setting(
        5000, "Subscriptions to one node, and addresses with a role at it.", at_least=1, at_most=100_000
    )
    subscriptions: int = setting(
        300, "Subscriptions of one address to the nodes of one host.", at_least=1, at_most=100_000
    )


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """What accounts say of themselves, and what they keep for themselves alone."""

    avatar_bytes: Bytes = setting(
        parse_size("128 KiB"),
        "Largest picture of an account; `pubsub.item_bytes` has to have room for it.",
        at_least=8192,
    )
    vcard_bytes: Bytes = setting(parse_size("64 KiB"), "Largest vCard, without its picture.", at_least=1024)
    private_bytes: Bytes = setting(
        parse_size("1 MiB"), "What the clients of one account keep in private storage and as settings.", at_least=1024
    )


@dataclass(frozen=True, slots=True)
class PushSettings:
    """Notifications to the app servers of mobile clients. They say that something came; what it is the client fetches."""

    text: str = setting(
        "New message",
        "Sent in place of the text of a message, because some app servers show a notification only if there is one; "
        '"" sends none.',
        reloadable=True,
    )
    include_sender: bool = setting(False, "Tell app servers who sent the last message.", reloadable=True)
    include_body: bool = setting(
        False, "Tell app servers the text of the last message. They belong to strangers.", reloadable=True
    )
    interval: Duration = setting(
        parse_duration("5 seconds"),
        "What comes within this time after a notification goes into one more, at its end; a call waits a second at most.",
        reloadable=True,
    )
    unacknowledged: Duration = setting(
        parse_duration("60 seconds"),
        "A device that was given a message and does not acknowledge it in this time counts as away; 0 believes connections.",
        reloadable=True,
    )
    registrations: int = setting(
        20,
        "App server nodes of one account; those enabled longest ago make room.",
        at_least=1,
        at_most=1000,
        reloadable=True,
    )
    failures: int = setting(
        16,
        "Notifications in a row that an app server does not answer, or puts off, before it is written to no more.",
        at_least=1,
        reloadable=True,
    )
    timeout: Duration = setting(
        parse_duration("30 seconds"), "Time for an app server to answer.", at_least=0.1, reloadable=True
    )


@dataclass(frozen=True, slots=True)
class ComponentSettings:
    """An external component (XEP-0114): a program of its own, such as a bot or a gateway, that answers for a domain."""

    domain: Domain = setting(REQUIRED, 'Its domain, below one that is served, such as "irc.example.org".')
    secret: str = setting(REQUIRED, "What it shows that it knows; as long and random as a password.", secret=True)
    name: str = setting("", "Name under which service discovery lists it; its domain without it.")
    listed: bool = setting(True, "List it among the services of the domain above it.")
    confirm: bool = setting(
        True,
        "Ask it after messages whether it has read them, by a ping, and send again what it had not; without, what was "
        "written counts as read. For a component that does not answer pings.",
    )


@dataclass(frozen=True, slots=True)
class BroadcastSettings:
    """One message to several addresses at once."""

    addresses: int = setting(50, "Most addresses of one message.", at_least=1, at_most=1000)


@dataclass(frozen=True, slots=True)
class ExternalServiceSettings:
    """A STUN or TURN server that clients are told of, for calls. Name each once for every port and transport."""

    type: Literal["stun", "stuns", "turn", "turns"] = setting(
        REQUIRED, "What it is; the `s` stands for TLS.", reloadable=True
    )
    host: str = setting(REQUIRED, "Its name or address, as clients reach it.", reloadable=True)
    port: int = setting(3478, "Its port; 5349 is usual for TLS.", at_least=1, at_most=65535, reloadable=True)
    transport: Literal["udp", "tcp"] = setting("udp", "Transport below it.", reloadable=True)
    secret: str | None = setting(
        None,
        "What it shares with this server, such as `static-auth-secret` of coturn: credentials are made from it.",
        secret=True,
        reloadable=True,
    )
    lifetime: Duration = setting(
        parse_duration("12 hours"), "How long credentials are valid.", at_least=60, reloadable=True
    )
