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
