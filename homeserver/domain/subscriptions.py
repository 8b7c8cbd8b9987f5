"""Presence subscriptions: the state machine of RFC 6121 appendix A as tables.

A `State` is what one account holds about one contact. Outbound stanzas come from the account, inbound ones from the
contact. Pre-approval (RFC 6121 s3.4) is a flag beside the state, because it may stand with three of the nine states.
The tables know nothing of rosters: whether a contact is listed is for the caller.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

SUBSCRIBE: Final = "subscribe"
SUBSCRIBED: Final = "subscribed"
UNSUBSCRIBE: Final = "unsubscribe"
UNSUBSCRIBED: Final = "unsubscribed"
TYPES: Final = frozenset((SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED))
"""Presence types that manage a subscription (RFC 6121 s3)."""


class State(IntEnum):
    """The nine states of RFC 6121 appendix A.1; the numbers are stored and never change."""

    NONE = 0
    NONE_OUT = 1
    NONE_IN = 2
    NONE_OUT_IN = 3
    TO = 4
    TO_IN = 5
    FROM = 6
    FROM_OUT = 7
    BOTH = 8

    @property
    def subscription(self) -> str:
        """The ``subscription`` attribute of a roster item: none, to, from or both (RFC 6121 s2.1.2.5)."""
        return _SUBSCRIPTION[self]

    @property
    def is_asking(self) -> bool:
        """Whether the account waits for an answer; ``ask='subscribe'`` in a roster item (RFC 6121 s2.1.2.2)."""
        return _IS_ASKING[self]

    @property
    def is_asked(self) -> bool:
        """Whether the contact waits for an answer."""
        return _IS_ASKED[self]

    @property
    def receives(self) -> bool:
        """Whether the account may see the contact's presence."""
        return _RECEIVES[self]

    @property
    def shares(self) -> bool:
        """Whether the contact may see the account's presence."""
        return _SHARES[self]


_NONE, _NONE_OUT, _NONE_IN, _NONE_OUT_IN = State.NONE, State.NONE_OUT, State.NONE_IN, State.NONE_OUT_IN
_TO_ONLY, _TO_IN, _FROM_ONLY, _FROM_OUT, _BOTH = State.TO, State.TO_IN, State.FROM, State.FROM_OUT, State.BOTH
_PENDING_OUT: Final = frozenset((_NONE_OUT, _NONE_OUT_IN, _FROM_OUT))
_PENDING_IN: Final = frozenset((_NONE_IN, _NONE_OUT_IN, _TO_IN))
_TO: Final = frozenset((_TO_ONLY, _TO_IN, _BOTH))
_FROM: Final = frozenset((_FROM_ONLY, _FROM_OUT, _BOTH))
# By the number of the state: rosters ask this of each of their contacts, and an enum's hash is slow.
_IS_ASKING: Final = tuple(state in _PENDING_OUT for state in State)
_IS_ASKED: Final = tuple(state in _PENDING_IN for state in State)
_RECEIVES: Final = tuple(state in _TO for state in State)
_SHARES: Final = tuple(state in _FROM for state in State)
_SUBSCRIPTION: Final[dict[State, str]] = {
    state: "both" if state is _BOTH else "to" if state in _TO else "from" if state in _FROM else "none"
    for state in State
}


@dataclass(frozen=True, slots=True)
class Outbound:
    """What to do with a stanza of the account: the new state and flag, and whether the contact is told."""

    state: State
    approved: bool
    route: bool


@dataclass(frozen=True, slots=True)
class Inbound:
    """What to do with a stanza of the contact: the new state, whether the account's clients are told, and the type of
    the presence that is answered on the account's behalf, or None."""

    state: State
    deliver: bool
    reply: str | None = None


_APPROVE: Final = "approve"

# RFC 6121 tables 2 to 5: (route, new state); _APPROVE stands for a pre-approval, which leaves the state alone.
_OUTBOUND: Final[dict[str, dict[State, tuple[bool, State | str]]]] = {
    SUBSCRIBE: {
        _NONE: (True, _NONE_OUT),
        _NONE_OUT: (True, _NONE_OUT),
        _NONE_IN: (True, _NONE_OUT_IN),
        _NONE_OUT_IN: (True, _NONE_OUT_IN),
        _TO_ONLY: (True, _TO_ONLY),
        _TO_IN: (True, _TO_IN),
        _FROM_ONLY: (True, _FROM_OUT),
        _FROM_OUT: (True, _FROM_OUT),
        _BOTH: (True, _BOTH),
    },
    UNSUBSCRIBE: {
        _NONE: (True, _NONE),
        _NONE_OUT: (True, _NONE),
        _NONE_IN: (True, _NONE_IN),
        _NONE_OUT_IN: (True, _NONE_IN),
        _TO_ONLY: (True, _NONE),
        _TO_IN: (True, _NONE_IN),
        _FROM_ONLY: (True, _FROM_ONLY),
        _FROM_OUT: (True, _FROM_ONLY),
        _BOTH: (True, _FROM_ONLY),
    },
    SUBSCRIBED: {
        _NONE: (False, _APPROVE),
        _NONE_OUT: (False, _APPROVE),
        _NONE_IN: (True, _FROM_ONLY),
        _NONE_OUT_IN: (True, _FROM_OUT),
        _TO_ONLY: (False, _APPROVE),
        _TO_IN: (True, _BOTH),
        _FROM_ONLY: (False, _FROM_ONLY),
        _FROM_OUT: (False, _FROM_OUT),
        _BOTH: (False, _BOTH),
    },
    UNSUBSCRIBED: {
        _NONE: (False, _NONE),
        _NONE_OUT: (False, _NONE_OUT),
        _NONE_IN: (True, _NONE),
        _NONE_OUT_IN: (True, _NONE_OUT),
        _TO_ONLY: (False, _TO_ONLY),
        _TO_IN: (True, _TO_ONLY),
        _FROM_ONLY: (True, _NONE),
        _FROM_OUT: (True, _NONE_OUT),
        _BOTH: (True, _TO_ONLY),
    },
}

# RFC 6121 tables 6 to 9: (deliver, new state, reply).
_INBOUND: Final[dict[str, dict[State, tuple[bool, State, str | None]]]] = {
    SUBSCRIBE: {
        _NONE: (True, _NONE_IN, None),
        _NONE_OUT: (True, _NONE_OUT_IN, None),
        _NONE_IN: (False, _NONE_IN, None),
        _NONE_OUT_IN: (False, _NONE_OUT_IN, None),
        _TO_ONLY: (True, _TO_IN, None),
        _TO_IN: (False, _TO_IN, None),
        _FROM_ONLY: (False, _FROM_ONLY, SUBSCRIBED),
        _FROM_OUT: (False, _FROM_OUT, SUBSCRIBED),
        _BOTH: (False, _BOTH, SUBSCRIBED),
    },
    UNSUBSCRIBE: {
        _NONE: (False, _NONE, None),
        _NONE_OUT: (False, _NONE_OUT, None),
        _NONE_IN: (True, _NONE, UNSUBSCRIBED),
        _NONE_OUT_IN: (True, _NONE_OUT, UNSUBSCRIBED),
        _TO_ONLY: (False, _TO_ONLY, None),
        _TO_IN: (True, _TO_ONLY, UNSUBSCRIBED),
        _FROM_ONLY: (True, _NONE, UNSUBSCRIBED),
        _FROM_OUT: (True, _NONE_OUT, UNSUBSCRIBED),
        _BOTH: (True, _TO_ONLY, UNSUBSCRIBED),
    },
    SUBSCRIBED: {
        _NONE: (False, _NONE, None),
        _NONE_OUT: (True, _TO_ONLY, None),
        _NONE_IN: (False, _NONE_IN, None),
        _NONE_OUT_IN: (True, _TO_IN, None),
        _TO_ONLY: (False, _TO_ONLY, None),
        _TO_IN: (False, _TO_IN, None),
        _FROM_ONLY: (False, _FROM_ONLY, None),
        _FROM_OUT: (True, _BOTH, None),
        _BOTH: (False, _BOTH, None),
    },
    UNSUBSCRIBED: {
        _NONE: (False, _NONE, None),
        _NONE_OUT: (True, _NONE, None),
        _NONE_IN: (False, _NONE_IN, None),
        _NONE_OUT_IN: (True, _NONE_IN, None),
        _TO_ONLY: (True, _NONE, None),
        _TO_IN: (True, _NONE_IN, None),
        _FROM_ONLY: (False, _FROM_ONLY, None),
        _FROM_OUT: (True, _FROM_ONLY, None),
        _BOTH: (True, _FROM_ONLY, None),
    },
}

# RFC 6121 s3.4.2: a request that was approved in advance is granted without asking.
_PRE_APPROVED: Final[dict[State, State]] = {_NONE: _FROM_ONLY, _NONE_OUT: _FROM_OUT, _TO_ONLY: _BOTH}


def outbound(kind: str, state: State, approved: bool = False) -> Outbound:
    """The account sends a presence of type ``kind`` (one of `TYPES`) to a contact (RFC 6121 appendix A.2).

    A pre-approval is cancelled by any ``unsubscribed`` (RFC 6121 s3.4.2).
    """
    route, new = _OUTBOUND[kind][state]
    if not isinstance(new, State):
        return Outbound(state, True, route)
    return Outbound(new, approved and kind != UNSUBSCRIBED, route)


def inbound(kind: str, state: State, approved: bool = False) -> Inbound:
    """A contact's presence of type ``kind`` (one of `TYPES`) reaches the account (RFC 6121 appendix A.3)."""
    if approved and kind == SUBSCRIBE and state in _PRE_APPROVED:
        return Inbound(_PRE_APPROVED[state], False, SUBSCRIBED)
    deliver, new, reply = _INBOUND[kind][state]
    return Inbound(new, deliver, reply)
