"""Stanzas and their errors (RFC 6120 s8).

A `Stanza` is a message, presence or IQ whose addresses are already prepared. It is never changed once made: to answer
or to pass it on, build another.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import Element, child, element, serialise

MESSAGE: Final = "{" + ns.CLIENT + "}message"
PRESENCE: Final = "{" + ns.CLIENT + "}presence"
IQ: Final = "{" + ns.CLIENT + "}iq"
STANZAS: Final = frozenset((MESSAGE, PRESENCE, IQ))
LANG: Final = "{" + ns.XML + "}lang"


class ErrorType(StrEnum):
    """RFC 6120 s8.3.2: what the sender may do about it."""

    AUTH = "auth"
    CANCEL = "cancel"
    CONTINUE = "continue"
    MODIFY = "modify"
    WAIT = "wait"


DEFAULT_TYPES: Final[dict[str, ErrorType]] = {
    "bad-request": ErrorType.MODIFY,
    "conflict": ErrorType.CANCEL,
    "feature-not-implemented": ErrorType.CANCEL,
    "forbidden": ErrorType.AUTH,
    "gone": ErrorType.CANCEL,
    "internal-server-error": ErrorType.CANCEL,
    "item-not-found": ErrorType.CANCEL,
    "jid-malformed": ErrorType.MODIFY,
    "not-acceptable": ErrorType.MODIFY,
    "not-allowed": ErrorType.CANCEL,
    "not-authorized": ErrorType.AUTH,
    "policy-violation": ErrorType.MODIFY,
    "recipient-unavailable": ErrorType.WAIT,
    "redirect": ErrorType.MODIFY,
    "registration-required": ErrorType.AUTH,
    "remote-server-not-found": ErrorType.CANCEL,
    "remote-server-timeout": ErrorType.WAIT,
    "resource-constraint": ErrorType.WAIT,
    "service-unavailable": ErrorType.CANCEL,
    "subscription-required": ErrorType.AUTH,
    "undefined-condition": ErrorType.CANCEL,
    "unexpected-request": ErrorType.WAIT,
}
"""The defined conditions with the error type RFC 6120 s8.3.3 gives each."""
# COMPAT(profanity, 0.13): knows by this code only that a contact, or the own account, has no device list yet; without it, it
# never publishes one.
_CODES: Final = {"item-not-found": "404"}
"""XEP-0086: the code from before there were conditions."""


@dataclass(frozen=True, slots=True)
class StanzaError:
    """A refusal: defined condition, type, optional English text, optional application element (RFC 6120 s8.3.2)."""

    condition: str
    type: ErrorType | None = None
    text: str = ""
    application: Element | None = None

    def to_element(self) -> Element:
        """The ``<error/>`` child."""
        kind = self.type or DEFAULT_TYPES[self.condition]
        made = element(ns.CLIENT, "error", {"type": kind.value}, element(ns.STANZA_ERRORS, self.condition))
        if self.condition in _CODES:
            made.set("code", _CODES[self.condition])
        if self.text:
            made.append(element(ns.STANZA_ERRORS, "text", {LANG: "en"}, self.text))
        if self.application is not None:
            made.append(self.application)
        return made


class Stanza:
    """One received or made stanza.

    ``name`` is "message", "presence" or "iq"; ``type`` its type attribute ("" where absent); ``id`` its id or None;
    ``sender`` the address the server vouches for; ``to`` the prepared recipient or None; ``element`` the tree in
    ``jabber:client``; ``raw`` the exact bytes of a message that may be relayed by splicing, else None.
    """

    __slots__ = ("element", "id", "name", "raw", "sender", "to", "type")

    def __init__(self, element: Element, sender: JID, to: JID | None, raw: bytes | None = None) -> None:
        self.element = element
        self.sender = sender
        self.to = to
        self.raw = raw
        self.name = element.tag[len(ns.CLIENT) + 2 :]
        self.type = element.get("type", "")
        self.id = element.get("id")

    def payload(self) -> Element | None:
        """The one child of an IQ request (RFC 6120 s8.2.3), or None where there is not exactly one."""
        return self.element[0] if len(self.element) == 1 else None

    def encode(self) -> bytes:
        """The stanza with ``from`` and ``to`` as the server knows them, for a ``jabber:client`` stream."""
        copy = Element(self.element.tag, self.element.attrib)
        copy.set("from", str(self.sender))
        if self.to is not None:
            copy.set("to", str(self.to))
        copy.text = self.element.text
        copy.extend(self.element)
        return serialise(copy).encode()


def result(request: Stanza, payload: Element | None = None) -> Element:
    """The ``<iq type='result'/>`` that answers ``request``."""
    made = Element(
        IQ,
        {
            "type": "result",
            "id": request.id or "",
            "from": str(request.to or request.sender.to_bare()),
            "to": str(request.sender),
        },
    )
    if payload is not None:
        made.append(payload)
    return made


def error_reply(request: Stanza, error: StanzaError) -> Element:
    """The stanza of type error that answers ``request``; addresses are swapped, the payload is not echoed."""
    made = Element(request.element.tag, {"type": "error", "to": str(request.sender)})
    if request.id is not None:
        made.set("id", request.id)
    made.set("from", str(request.to if request.to is not None else request.sender.to_bare()))
    made.append(error.to_element())
    return made


def error_of(stanza: Element) -> str | None:
    """The defined condition of a stanza of type error, or None."""
    error = child(stanza, ns.CLIENT, "error")
    if error is None:
        return None
    for part in error:
        if part.tag.startswith("{" + ns.STANZA_ERRORS + "}") and not part.tag.endswith("}text"):
            return part.tag.rpartition("}")[2]
    return None
