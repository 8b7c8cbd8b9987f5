"""What an error of the store means, whatever driver raised it."""

import errno
from typing import Final

_SQLITE_FULL: Final = 13
_DISK_FULL: Final = "53100"
"""SQLSTATE disk_full of PostgreSQL."""


def is_full(error: BaseException) -> bool:
    """Whether the store could not write because there is no room."""
    origin = getattr(error, "orig", None) or error
    if isinstance(origin, OSError):
        return origin.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(origin, "sqlite_errorcode", None)
    if code is not None:
        return bool(code & 0xFF == _SQLITE_FULL)
    return getattr(origin, "sqlstate", None) == _DISK_FULL
