"""The settings of single features: uploads, push, calls and the like. What every server needs is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from config.declare import setting
from config.units import Bytes, ContactUri, Duration, Label, parse_duration, parse_size


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
    """Uploaded files."""

    subdomain: Label = setting(
        "upload", "Name under each domain for uploads: `parley check` includes it. Uploads are not there yet."
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
