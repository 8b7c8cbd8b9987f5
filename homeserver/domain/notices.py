"""What the operator says to everybody: announcements, and notices that are shown at login."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from homeserver.domain.accounts import Role
from homeserver.domain.errors import NotAcceptable

MAX_TEXT: Final = 10_000
"""Characters of an announcement or a notice."""
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def fitting(text: str) -> str:
    """A text that may be sent to everybody, without space around it. Raises `NotAcceptable` for an empty one, one that is
    too long, and one with characters that XML does not have."""
    text = text.strip()
    if not text:
        raise NotAcceptable("there is no text")
    if len(text) > MAX_TEXT:
        raise NotAcceptable(f"the text has more than {MAX_TEXT} characters")
    if _NO_XML.search(text):
        raise NotAcceptable("the text has characters that cannot be sent")
    return text


class NoticeKind(StrEnum):
    """MOTD is shown once to every account, WELCOME to accounts made since it was set, when they first come online."""

    MOTD = "motd"
    WELCOME = "welcome"


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice of one domain. An account that was sent its ``version`` is not sent it again. ``since`` is seconds since
    the epoch: when it was first set."""

    kind: NoticeKind
    domain: str
    text: str
    version: int
    since: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message to many accounts, and how far it has come.

    ``author`` is the number of an account, ``domain`` and ``role`` say who is told (None: everybody). Accounts with
    numbers up to ``reached`` are done with; it ends at ``last``. ``told`` of them were sent it. Times are seconds since
    the epoch; ``finished`` is None until then.
    """

    id: int
    author: int
    domain: str | None
    role: Role | None
    text: str
    created: float
    last: int
    reached: int = 0
    told: int = 0
    finished: float | None = None
