"""Messages between people (RFC 6121 s5): from a stanza to what the services handle.

What may be done with a message is decided here, once, from its type and its children: XEP-0334 hints, XEP-0313 s6,
XEP-0280 s6.1, XEP-0160 s3, XEP-0357 s7. A message is relayed as the bytes it came in wherever that is safe; what a stranger may not
say is taken out: wrappers of copies and archive results, and stanza-ids and times in our name (XEP-0359 s5, XEP-0280
s11, XEP-0203 s5).
"""

from typing import Final, NamedTuple

from homeserver.domain.errors import BadRequest
from homeserver.domain.messages import (
    ARCHIVE,
    COPY,
    DISPLAYED,
    DURABLE,
    INSTANT,
    KEEP,
    RETRACTION,
    Alert,
    Kind,
    Message,
)
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.stanza import LANG, Stanza
from homeserver.protocol.xml import Element, escape_attribute, serialise

_BODY, _CONTENT, _TALK, _NO_STORE, _NO_ARCHIVE, _NO_COPY, _STORE, _REWRITE, _ORIGIN, _ROOM = (1 << n for n in range(10))
_READ, _CALL, _QUIET = (1 << n for n in range(10, 13))
_SECRET, _AMENDS, _RETRACTS, _DISPLAYED = (1 << n for n in range(13, 17))
_ENCRYPTED: Final = _CONTENT | _TALK | _READ
_SIGNAL: Final = _CONTENT | _TALK
_WAKING: Final = _READ | _CALL | _QUIET
_COPIED: Final = _BODY | _TALK | _ROOM
"""Those that make a normal message one for copies."""
_SPECIAL: Final = _BODY | _SECRET | _RETRACTS | _DISPLAYED
"""Those that make a flag of their own in the treatment."""

_TRAITS: Final[dict[str, int]] = {
    f"{{{ns.CLIENT}}}body": _BODY | _CONTENT | _READ,
    f"{{{ns.CLIENT}}}thread": 0,
    f"{{{ns.ADDRESSES}}}addresses": 0,
    f"{{{ns.CHAT_STATES}}}active": _TALK,
    f"{{{ns.CHAT_STATES}}}composing": _TALK,
    f"{{{ns.CHAT_STATES}}}paused": _TALK,
    f"{{{ns.CHAT_STATES}}}inactive": _TALK,
    f"{{{ns.CHAT_STATES}}}gone": _TALK,
    f"{{{ns.RECEIPTS}}}request": 0,
    f"{{{ns.RECEIPTS}}}received": _TALK | _CONTENT,
    f"{{{ns.CHAT_MARKERS}}}markable": 0,
    f"{{{ns.CHAT_MARKERS}}}received": _TALK | _CONTENT,
    f"{{{ns.CHAT_MARKERS}}}displayed": _TALK | _CONTENT | _DISPLAYED,
    f"{{{ns.CHAT_MARKERS}}}acknowledged": _TALK | _CONTENT | _DISPLAYED,
    f"{{{ns.CORRECTION}}}replace": _CONTENT | _AMENDS,
    f"{{{ns.HINTS}}}no-store": _NO_STORE,
    f"{{{ns.HINTS}}}no-permanent-store": _NO_ARCHIVE,
    f"{{{ns.HINTS}}}no-copy": _NO_COPY,
    f"{{{ns.HINTS}}}store": _STORE,
    f"{{{ns.CARBONS}}}private": _NO_COPY,
    f"{{{ns.CARBONS}}}sent": _REWRITE,
    f"{{{ns.CARBONS}}}received": _REWRITE,
    f"{{{ns.ARCHIVE}}}result": _REWRITE,
    f"{{{ns.STANZA_ID}}}stanza-id": _REWRITE,
    f"{{{ns.DELAY}}}delay": _REWRITE,
    f"{{{ns.STANZA_ID}}}origin-id": _ORIGIN,
    f"{{{ns.NICK}}}nick": 0,
    f"{{{ns.MUC_USER}}}x": _ROOM | _CONTENT,
    f"{{{ns.CONFERENCE}}}x": _CONTENT | _TALK | _READ,
    f"{{{ns.ENCRYPTION}}}encryption": _ENCRYPTED | _SECRET,
    f"{{{ns.OMEMO}}}encrypted": _ENCRYPTED | _SECRET,
    f"{{{ns.OMEMO_LEGACY}}}encrypted": _ENCRYPTED | _SECRET,
    f"{{{ns.OPENPGP}}}openpgp": _ENCRYPTED | _SECRET,
    f"{{{ns.OPENPGP_LEGACY}}}x": _ENCRYPTED | _SECRET,
    f"{{{ns.RETRACTION}}}retract": _CONTENT | _QUIET | _AMENDS | _RETRACTS,
    f"{{{ns.REACTIONS}}}reactions": _CONTENT | _QUIET | _AMENDS,
    f"{{{ns.JINGLE_MESSAGE}}}propose": _SIGNAL | _CALL,
    f"{{{ns.JINGLE_MESSAGE}}}ringing": _SIGNAL,
    f"{{{ns.JINGLE_MESSAGE}}}proceed": _SIGNAL,
    f"{{{ns.JINGLE_MESSAGE}}}accept": _SIGNAL,
    f"{{{ns.JINGLE_MESSAGE}}}reject": _SIGNAL,
    f"{{{ns.JINGLE_MESSAGE}}}retract": _SIGNAL,
    f"{{{ns.JINGLE_MESSAGE}}}finish": _SIGNAL,
}
_WRAPPERS: Final = frozenset((f"{{{ns.CARBONS}}}sent", f"{{{ns.CARBONS}}}received", f"{{{ns.ARCHIVE}}}result"))
_CHAT: Final = Kind.CHAT
_NORMAL: Final = Kind.NORMAL
_GROUPCHAT: Final = Kind.GROUPCHAT
_ERROR: Final = Kind.ERROR
_KINDS: Final = {
    "": Kind.NORMAL,
    "normal": Kind.NORMAL,
    "chat": Kind.CHAT,
    "groupchat": Kind.GROUPCHAT,
    "headline": Kind.HEADLINE,
    "error": Kind.ERROR,
}
_ORIGIN_TAG: Final = f"{{{ns.STANZA_ID}}}origin-id"
_DELAY_TAG: Final = f"{{{ns.DELAY}}}delay"
_STANZA_ID_TAG: Final = f"{{{ns.STANZA_ID}}}stanza-id"
_MUC_INVITE: Final = f"{{{ns.MUC_USER}}}invite"
_START: Final = b"<message"
_END: Final = b"</message>"
_ALL: Final = ARCHIVE | KEEP | COPY | DURABLE
_WITHOUT_ARCHIVE: Final = KEEP | COPY | DURABLE
_NO_TREATMENT: Final = 0
_NO_ALERT: Final = int(Alert.NONE)
_CONTENT_ALERT: Final = int(Alert.CONTENT)
_CALLING: Final = int(Alert.CALL)


class StartTag(NamedTuple):
    """The beginning of a sender's messages: as it is for one with a language of its own, and for one without."""

    plain: bytes
    spoken: bytes
    lang: str


class Reader:
    """Turns message stanzas into `Message` values. ``domains`` are those served here."""

    def __init__(self, domains: frozenset[str]) -> None:
        self._domains = domains

    def read(self, element: Element, raw: bytes | None, sender: JID, to: JID, start: StartTag, local: bool) -> Message:
        """Read one message.

        ``start`` is what replaces ``<message`` in bytes that can be relayed; the caller keeps it per session.
        ``local`` is whether the sender is ours.
        """
        traits = _traits(element)
        if (
            raw is not None
            and not traits & _REWRITE
            and raw.startswith(_START)
            and raw.endswith(_END)
            and "from" not in element.attrib
            and element.get("to") == str(to)
            and b"xmlns" not in raw[: raw.find(b">")]
        ):
            tag = start.plain if LANG in element.attrib else start.spoken
            payload = tag + raw[len(_START) :]
        else:
            payload = self._rewrite(element, sender, to, start)
        return _message(element, sender, to, traits, payload, local)

    def read_from_peer(self, stanza: Stanza, payload: bytes | None) -> Message:
        """Read a message whose sender a peer answers for; ``payload`` is its bytes where they may be kept as they are."""
        sender, to, element = stanza.sender, stanza.to, stanza.element
        if to is None:
            raise BadRequest
        traits = _traits(element)
        if payload is None or traits & _REWRITE:
            payload = self._rewrite(element, sender, to, start_tag(sender, element.get(LANG, "")))
        return _message(element, sender, to, traits, payload, False)

    def _rewrite(self, element: Element, sender: JID, to: JID, start: StartTag) -> bytes:
        copy = Element(element.tag, {"from": str(sender), **element.attrib})
        copy.set("from", str(sender))
        copy.set("to", str(to))
        if start.lang and LANG not in copy.attrib:
            copy.set(LANG, start.lang)
        copy.text = element.text
        for part in element:
            if part.tag in _WRAPPERS or self._claims_ours(part):
                continue
            copy.append(part)
        if len(copy) == 0 and not copy.text:
            copy.text = " "  # keeps an end tag, which rendering splices before
        return serialise(copy).encode()

    def _claims_ours(self, part: Element) -> bool:
        """Whether it is an id or a time that only this server may write. A client may say when itself wrote."""
        if part.tag not in (_STANZA_ID_TAG, _DELAY_TAG):
            return False
        is_time = part.tag == _DELAY_TAG
        try:
            claimed = JID.parse(part.get("from" if is_time else "by", ""))
        except InvalidJID:
            return not is_time
        return claimed.domain in self._domains and not (is_time and claimed.local)


def _traits(element: Element) -> int:
    traits = 0
    for part in element:
        traits |= _TRAITS.get(part.tag, _CONTENT)
    return traits


def _message(element: Element, sender: JID, to: JID, traits: int, payload: bytes, local: bool) -> Message:
    kind = _KINDS.get(element.get("type", ""), _NORMAL)  # RFC 6121 s5.2.2: an unknown type is normal
    origin = None
    if traits & _ORIGIN:
        found = element.find(_ORIGIN_TAG)
        origin = None if found is None else found.get("id")
    treatment = _treatment(kind, traits, element, local)
    if kind is _CHAT and traits & _WAKING == _READ:
        alert = _CONTENT_ALERT
    else:
        alert = _alert(kind, traits, element) if traits & _CONTENT else _NO_ALERT
    return Message(sender, to, kind, treatment, element.get("id"), origin, payload, alert)


def _alert(kind: Kind, traits: int, element: Element) -> int:
    """Whether a message is worth waking a device for: text, anything encrypted, an invitation, or a call (XEP-0357 s7,
    XEP-0353 s3.1). What changes or takes back an earlier message may have a body for clients that do not know it."""
    if traits & _QUIET or kind is _ERROR or kind is Kind.HEADLINE:
        return _NO_ALERT
    if traits & _CALL:
        return _CALLING
    if traits & _READ or (traits & _ROOM and _is_invitation(element)):
        return _CONTENT_ALERT
    return _NO_ALERT


def _treatment(kind: Kind, traits: int, element: Element, local: bool) -> int:
    if kind is _CHAT or kind is _NORMAL:
        if traits & _NO_STORE:
            treatment = COPY
        elif traits & (_CONTENT | _STORE):
            treatment = _WITHOUT_ARCHIVE if traits & _NO_ARCHIVE and not traits & _STORE else _ALL
        else:
            treatment = COPY
        if traits & _NO_COPY or (kind is _NORMAL and not traits & _COPIED):
            treatment &= ~COPY
        elif traits & _ROOM and not local and not _is_invitation(element):
            treatment &= ~COPY  # XEP-0280 s6.1: the room gives it to every joined client itself
        return treatment | _what_it_is(traits) if traits & _SPECIAL else treatment
    if kind is _ERROR:
        # What an error answers stands in it; other sessions that have a copy of that learn that it failed.
        return DURABLE | COPY if traits & _COPIED and not traits & _NO_COPY else DURABLE
    if kind is _GROUPCHAT:
        return DURABLE
    return _NO_TREATMENT if traits & _NO_STORE else DURABLE


def _what_it_is(traits: int) -> int:
    found = INSTANT if traits & (_BODY | _SECRET) and not traits & _AMENDS else 0
    if traits & _RETRACTS:
        found |= RETRACTION
    return found | DISPLAYED if traits & _DISPLAYED else found


def _is_invitation(element: Element) -> bool:
    room = element.find(f"{{{ns.MUC_USER}}}x")
    return room is not None and room.find(_MUC_INVITE) is not None


def start_tag(sender: JID, lang: str = "") -> StartTag:
    """``<message`` with the vouched-for sender, with and without the stream's language (RFC 6120 s8.1.5)."""
    plain = f"<message from='{escape_attribute(str(sender))}'"
    spoken = plain + f" xml:lang='{escape_attribute(lang)}'" if lang else plain
    return StartTag(plain.encode(), spoken.encode(), lang)
