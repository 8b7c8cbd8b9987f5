"""The settings of single features: uploads, push, calls and the like. What every server needs is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass

from config.declare import setting
from config.units import ContactUri, Label


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
