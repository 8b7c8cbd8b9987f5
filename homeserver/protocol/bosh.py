"""BOSH without the HTTP: wrappers, terms of a session, the order of requests, keys (XEP-0124, XEP-0206)."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.document import parse_document
from homeserver.protocol.framing import WebSocketFraming
from homeserver.protocol.stanza import LANG
from homeserver.protocol.xml import Element, escape_attribute, serialise
from homeserver.protocol.xml_input import XmlFault, XmlLimits

BODY: Final = f"{{{ns.BOSH}}}body"
VERSION: Final = "1.11"
MAX_WAIT: Final = 60
MAX_HOLD: Final = 1
INACTIVITY: Final = 60
POLLING: Final = 5
POLLING_INACTIVITY: Final = 120
MAX_PAUSE: Final = 120
MAX_RID: Final = 2**53 - 1
MAX_REPEATS: Final = 20
"""Repeats of one request; more are not a broken connection."""
_XMPP: Final = f"{{{ns.XBOSH}}}"
_TRUE: Final = frozenset(("1", "true"))
LEGACY_STATUS: Final = {"bad-request": 400, "policy-violation": 403, "item-not-found": 404}
"""What clients that know no conditions are told (XEP-0124 s16.1)."""


class BoshFault(Exception):
    """The session ends with a terminal binding condition (XEP-0124 s16.2)."""

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One ``<body/>`` of a client (XEP-0124 s6): its attributes and the payloads as elements."""

    rid: int
    sid: str
    payloads: tuple[Element, ...]
    attributes: Mapping[str, str]

    @classmethod
    def parse(cls, data: bytes, limits: XmlLimits) -> "Wrapper":
        """Read one request. Raises `BoshFault` with bad-request."""
        try:
            root = parse_document(data, limits)
        except XmlFault as error:
            raise BoshFault("policy-violation" if error.condition == "policy-violation" else "bad-request") from error
        rid = root.get("rid", "")
        if root.tag != BODY or not (rid.isascii() and rid.isdigit()) or len(rid) > 16 or int(rid) > MAX_RID:
            raise BoshFault("bad-request")
        return cls(int(rid), root.get("sid", ""), tuple(root), root.attrib)

    @property
    def restarts(self) -> bool:
        """Whether the client opens its XMPP stream anew (XEP-0206 s5)."""
        return self.attributes.get(f"{_XMPP}restart") in _TRUE

    @property
    def terminates(self) -> bool:
        """XEP-0124 s12."""
        return self.attributes.get("type") == "terminate"

    @property
    def pause(self) -> int | None:
        """Seconds of the pause that is asked for (XEP-0124 s9)."""
        return _number(self.attributes.get("pause"))

    @property
    def is_empty(self) -> bool:
        """Whether it only asks for what there is."""
        return not (self.payloads or self.restarts or self.terminates or self.pause is not None)

    def opening(self) -> bytes:
        """The stream header that it stands for, in the framing of RFC 7395."""
        made = Element(f"{{{ns.FRAMING}}}open", {"to": self.attributes.get("to", ""), "version": "1.0"})
        if LANG in self.attributes:
            made.set(LANG, self.attributes[LANG])
        return serialise(made).encode()


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when the session was made (XEP-0124 s7.2); times in seconds. ``is_legacy``: without ``ver``."""

    wait: int
    hold: int
    is_legacy: bool
    confirms: bool

    @classmethod
    def agree(cls, first: Wrapper) -> "Terms":
        """Read them from the request that makes the session. Raises `BoshFault`."""
        told = first.attributes
        if not told.get("to"):
            raise BoshFault("improper-addressing")
        wait, hold = _number(told.get("wait", "60")), _number(told.get("hold", "1"))
        if wait is None or hold is None:
            raise BoshFault("bad-request")
        return cls(min(wait, MAX_WAIT), min(hold, MAX_HOLD), "ver" not in told, told.get("ack") == "1")

    @property
    def is_polling(self) -> bool:
        """XEP-0124 s11."""
        return not (self.wait and self.hold)

    @property
    def requests(self) -> int:
        """How many requests the client may have open."""
        return self.hold + 1

    @property
    def inactivity(self) -> int:
        """How long there may be no request."""
        return POLLING_INACTIVITY if self.is_polling else INACTIVITY

    def attributes(self, sid: str, domain: str, stream_id: str, rid: int) -> dict[str, str]:
        """What the answer to the first request tells."""
        told = {
            "sid": sid, "wait": str(self.wait), "hold": str(self.hold), "requests": str(self.requests),
            "inactivity": str(self.inactivity), "polling": str(POLLING), "maxpause": str(MAX_PAUSE), "ver": VERSION,
            "from": domain, "authid": stream_id, "xmpp:version": "1.0", "xmpp:restartlogic": "true",
        }  # fmt: skip
        if self.confirms:
            told["ack"] = str(rid)
        return told


class BoshFraming(WebSocketFraming):
    """The XMPP stream inside of wrappers: it has no header and no end of its own."""

    __slots__ = ("failed", "stream_id")

    def __init__(self, limits: XmlLimits) -> None:
        super().__init__(limits)
        self.stream_id = ""
        self.failed = False

    def header(self, attributes: dict[str, str]) -> bytes:
        self.stream_id = attributes.get("id", "")
        return b""

    def footer(self) -> bytes:
        return b""

    def stream_element(self, name: str, content: str) -> bytes:
        self.failed = self.failed or name == "error"
        return super().stream_element(name, content)


def wrap(payloads: Sequence[bytes], attributes: Mapping[str, str] | None = None) -> bytes:
    """A ``<body/>`` for the client."""
    told = "".join(f" {name}='{escape_attribute(value)}'" for name, value in (attributes or {}).items())
    start = f"<body xmlns='{ns.BOSH}' xmlns:xmpp='{ns.XBOSH}' xmlns:stream='{ns.STREAM}'{told}"
    return b"%b>%b</body>" % (start.encode(), b"".join(payloads)) if payloads else start.encode() + b"/>"


def terminated(condition: str = "", payloads: Sequence[bytes] = ()) -> bytes:
    """The last ``<body/>`` of a session."""
    return wrap(payloads, {"type": "terminate", **({"condition": condition} if condition else {})})


class Keys:
    """The key sequence of a session that has one (XEP-0124 s14). Each key hashes to the one before."""

    def __init__(self, first: Wrapper) -> None:
        self._expected = first.attributes.get("newkey")

    def check(self, wrapper: Wrapper) -> None:
        """Judge the next request in order. Raises `BoshFault`."""
        if self._expected is None:
            return
        key = wrapper.attributes.get("key", "")
        hashed = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
        if not key or not hmac.compare_digest(hashed, self._expected):
            raise BoshFault("item-not-found")
        self._expected = wrapper.attributes.get("newkey", key)


class Requests:
    """The order of a session's requests, and the answers that may have to be given again (XEP-0124 s13)."""

    def __init__(self, first: Wrapper, terms: Terms) -> None:
        self._terms = terms
        self._keys = Keys(first)
        self._next = first.rid + 1
        self._early: dict[int, Wrapper] = {}
        self._answers: OrderedDict[int, bytes] = OrderedDict()
        self._confirmed = first.rid - 1
        self._repeats: dict[int, int] = {}
        self._idle_since: float | None = None

    @property
    def highest(self) -> int:
        """The last request that was taken in order."""
        return self._next - 1

    def answer_again(self, rid: int) -> bytes | None:
        """The kept answer to a repeated request; None for one that was not answered yet, or is new.

        Raises `BoshFault` for one whose answer is gone, or that is outside of the window.
        """
        if rid >= self._next:
            if rid >= self._next + self._terms.requests + 1:
                raise BoshFault("item-not-found")
            return None
        if rid <= self._confirmed:
            raise BoshFault("item-not-found")
        self._repeats[rid] = self._repeats.get(rid, 0) + 1
        if self._repeats[rid] > MAX_REPEATS:
            raise BoshFault("policy-violation")
        return self._answers.get(rid)

    def is_new(self, rid: int) -> bool:
        """Whether the request has not come before."""
        return rid >= self._next and rid not in self._early

    def take(self, wrapper: Wrapper, now: float) -> list[Wrapper]:
        """A new request came; those that are now in order. Raises `BoshFault`."""
        self._early[wrapper.rid] = wrapper
        ready = []
        while self._next in self._early:
            found = self._early.pop(self._next)
            self._keys.check(found)
            self._next += 1
            self._confirm(found)
            self._polled(found, now)
            ready.append(found)
        return ready

    def answered(self, rid: int, answer: bytes, is_idle: bool, now: float) -> None:
        """Keep an answer until the client is known to have it; ``is_idle`` when it held nothing."""
        self._answers[rid] = answer
        if self._terms.is_polling:
            self._idle_since = now if is_idle else None

    def unconfirmed(self) -> int:
        """Bytes of answers that the client may not have received."""
        return sum(map(len, self._answers.values()))

    def _confirm(self, wrapper: Wrapper) -> None:
        """A client has at most ``requests`` open, so a new one says which answers it has; with ``ack`` it says more."""
        sure = wrapper.rid - self._terms.requests
        told = _number(wrapper.attributes.get("ack")) if self._terms.confirms else None
        if told is not None and told < self._next:
            sure = max(sure, told)
        self._confirmed = max(self._confirmed, sure)
        for rid in [rid for rid in self._answers if rid <= self._confirmed]:
            del self._answers[rid]
        for rid in [rid for rid in self._repeats if rid <= self._confirmed]:
            del self._repeats[rid]

    def _polled(self, wrapper: Wrapper, now: float) -> None:
        if wrapper.is_empty and self._idle_since is not None and now - self._idle_since < POLLING:
            raise BoshFault("policy-violation")
        self._idle_since = None


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 16:
        return None
    return int(text)
