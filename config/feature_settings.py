"""The settings of single features: uploads, push, calls and the like. What every server needs is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass

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
