"""Refusals of the signed API: problem details (RFC 9457, RFC 7807) with a stable type each.

They tell a peer what to do about it and nothing else: every failed proof is one and the same ``unauthorized``.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from homeserver.protocol import namespaces as ns

CONTENT_TYPE: Final = "application/problem+json"

BAD_REQUEST: Final = "bad-request"
UNAUTHORIZED: Final = "unauthorized"
POLICY: Final = "policy"
UNKNOWN_DESTINATION: Final = "unknown-destination"
SLOW: Final = "slow"
NUMBERS: Final = "numbers"
RESTORED: Final = "restored"
TRANSACTION_NUMBER: Final = "transaction-number"
TOO_LARGE: Final = "too-large"
UNSUPPORTED: Final = "unsupported"
TOO_MANY: Final = "too-many"
UNAVAILABLE: Final = "unavailable"

STATUS: Final = {
    BAD_REQUEST: 400,
    UNAUTHORIZED: 401,
    POLICY: 403,
    UNKNOWN_DESTINATION: 404,
    SLOW: 408,
    NUMBERS: 409,
    RESTORED: 409,
    TRANSACTION_NUMBER: 409,
    TOO_LARGE: 413,
    UNSUPPORTED: 415,
    TOO_MANY: 429,
    UNAVAILABLE: 503,
}


class Problem(msgspec.Struct, omit_defaults=True):
    """The body. ``epoch``, ``accepted``, ``expected`` say what the receiver holds, ``last`` its last transaction."""

    type: str
    status: int
    detail: str = ""
    epoch: str | None = None
    accepted: int | None = None
    expected: int | None = None
    last: int | None = None

    @property
    def name(self) -> str:
        """The type without its prefix, "" where it is of another kind."""
        return (
            self.type[len(ns.PARLEY_FEDERATION_PROBLEM) :] if self.type.startswith(ns.PARLEY_FEDERATION_PROBLEM) else ""
        )


@dataclass(slots=True)
class Refusal(Exception):
    """A request is refused as a whole. ``name`` is one of the constants above."""

    name: str
    detail: str = ""
    epoch: str | None = None
    accepted: int | None = None
    expected: int | None = None
    last: int | None = None

    def body(self) -> bytes:
        return msgspec.json.encode(
            Problem(
                ns.PARLEY_FEDERATION_PROBLEM + self.name,
                STATUS[self.name],
                self.detail,
                self.epoch,
                self.accepted,
                self.expected,
                self.last,
            )
        )


def read_problem(body: bytes) -> Problem | None:
    """Read a problem, None where it is not one."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
