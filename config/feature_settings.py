"""The settings of single features: uploads, push, calls and the like. What every server needs is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass

from config.declare import setting
from config.units import Label


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Uploaded files."""

    subdomain: Label = setting(
        "upload", "Name under each domain for uploads: `parley check` includes it. Uploads are not there yet."
    )
