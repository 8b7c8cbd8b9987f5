"""One stanza for several addresses (XEP-0033): the multicast service at each domain's own address.

A copy for an address of another server is sent there by itself, whether or not that server is a multicast service as
well: the recipients see no difference (XEP-0033 s6).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, DomainError, Forbidden, JidMalformed, ServiceUnavailable
from homeserver.domain.messages import Message
from homeserver.domain.sessions import Session
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.stanza import Stanza, error_reply
from homeserver.protocol.xml import Element, child, parse_stanza, serialise
from homeserver.services.broadcasts import Broadcasts
from homeserver.services.messaging import Then
from homeserver.services.presence import Presence
from homeserver.services.router import Router
from homeserver.xmpp.errors import stanza_error
from homeserver.xmpp.feature import feature

_ADDRESSES: Final = f"{{{ns.ADDRESSES}}}addresses"
_DELIVERED_TO: Final = frozenset(("to", "cc", "bcc"))


@dataclass(frozen=True, slots=True)
class Envelope:
    """The addresses of a stanza: ``header`` as it came, ``recipients`` to whom it is still to be delivered, each with the
    place of its address, once."""

    header: Element
    recipients: dict[JID, int]

    def header_for(self, place: int) -> Element:
        """What one recipient sees: no blind copies but its own (XEP-0033 s4.6.3), the others marked (s4.5)."""
        made = Element(self.header.tag, self.header.attrib)
        for position, address in enumerate(self.header):
            kind = address.get("type")
            if kind == "bcc" and position != place:
                continue
            copy = Element(address.tag, address.attrib)
            copy.text = address.text
            copy.extend(address)
            if kind in ("to", "cc"):
                copy.set("delivered", "true")
            made.append(copy)
        return made


def envelope(stanza: Element) -> Envelope | None:
    """The addresses of a stanza, None where it has none. Raises `BadRequest`, `JidMalformed` (XEP-0033 s4, s9)."""
    header = child(stanza, ns.ADDRESSES, "addresses")
    if header is None:
        return None
    recipients: dict[JID, int] = {}
    for place, address in enumerate(header):
        if address.tag != f"{{{ns.ADDRESSES}}}address":
            continue
        kind, uri = address.get("type"), address.get("uri")
        if not kind or ("jid" in address.attrib and uri is not None) or (uri is not None and "node" in address.attrib):
            raise BadRequest("an address has a type, and a jid or a uri")
        if kind not in _DELIVERED_TO or address.get("delivered") == "true":
            continue
        if uri is not None:
            raise JidMalformed("addresses of other networks are not reached")
        recipients.setdefault(_parsed(address.get("jid", "")), place)
    return Envelope(header, recipients)


def copies(stanza: Element, found: Envelope) -> Iterator[tuple[JID, Element]]:
    """The stanza for each recipient, with the ``to`` of that one."""
    for recipient, place in found.recipients.items():
        made = Element(stanza.tag, stanza.attrib)
        made.set("to", str(recipient))
        made.text = stanza.text
        for part in stanza:
            if part.tag == _ADDRESSES:
                if part is found.header:
                    made.append(found.header_for(place))
            else:
                made.append(part)
        yield recipient, made


def _parsed(text: str) -> JID:
    if not text:
        raise BadRequest("an address to be delivered to has a jid")
    try:
        return JID.parse(text)
    except InvalidJID as error:
        raise JidMalformed(f"{text[:100]} is not an address") from error


class Multicast:
    """Takes messages to a domain's own address for the addresses in them, and presence likewise.

    It is attached to the domains of the server. Only their accounts may use it.
    """

    def __init__(self, broadcasts: Broadcasts, presence: Presence, router: Router) -> None:
        self._broadcasts = broadcasts
        self._presence = presence
        self._router = router

    def route(self, stanza: Stanza) -> None:
        """Nothing else comes to the address of a domain this way."""

    async def prepare(self, sender: Account, source: JID, message: Message) -> None:
        """Load what `submit` must know of those a message names; what is wrong with it is for `submit` to say."""
        try:
            found = envelope(parse_stanza(message.payload))
        except DomainError:
            return
        if found is not None and len(found.recipients) <= self._broadcasts.most:
            await self._broadcasts.prepare(sender, source, found.recipients)

    def submit(self, sender: Account | None, source: JID, message: Message, then: Then) -> None:
        """Deliver a message to everybody it names."""
        if not message.to.is_bare:
            raise ServiceUnavailable
        stanza = parse_stanza(message.payload)
        found = envelope(stanza)
        if found is None:
            raise ServiceUnavailable
        if sender is None:
            raise Forbidden("Only accounts of this server may send to many")
        self._admit(sender, found)
        made = [
            replace(message, to=recipient, payload=serialise(copy).encode())
            for recipient, copy in copies(stanza, found)
        ]
        self._broadcasts.submit(sender, source, made, self._refused, then)

    def show(self, session: Session, stanza: Stanza) -> bool:
        """Show a session to everybody its presence to a domain names (XEP-0033 s5.1); false where it names nobody."""
        if stanza.to is None or not stanza.to.is_bare or not self._router.is_own(stanza.to):
            return False
        found = envelope(stanza.element)
        if found is None:
            return False
        self._admit(session.account, found)
        for recipient, copy in copies(stanza.element, found):
            self._presence.directed(session, Stanza(copy, stanza.sender, recipient))
        return True

    def _admit(self, sender: Account, found: Envelope) -> None:
        if not found.recipients:
            raise BadRequest("nobody to deliver it to")
        if any(self._router.is_own(recipient) for recipient in found.recipients):
            raise BadRequest("the address of a domain is nobody's")
        self._broadcasts.bound(len(found.recipients))
        self._broadcasts.charge(sender, len(found.recipients))

    def _refused(self, copy: Message, refusal: DomainError) -> None:
        """Each address that does not take it is told to the sender by an error of its own."""
        element = parse_stanza(copy.payload)
        if element.get("type") != "error":
            answer = error_reply(Stanza(element, copy.sender, copy.to), stanza_error(refusal))
            self._router.route(Stanza(answer, copy.to, copy.sender))


@feature(xep=33, version="1.2.1", disco=(ns.ADDRESSES,))
class ExtendedAddressing:
    """Says that a domain is a multicast service (XEP-0033 s2)."""

    multicast: Multicast
