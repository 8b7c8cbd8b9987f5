"""The settings of single features: uploads, push, calls and the like. What every server needs is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from config.declare import setting
from config.units import ContactUri, Duration, Label, parse_duration


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
