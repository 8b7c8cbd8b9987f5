"""Roster items, results and pushes as stanzas (RFC 6121 s2.1)."""

from collections.abc import Iterable

from homeserver.domain.rosters import Contact
from homeserver.domain.subscriptions import SUBSCRIBE
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.presence import presence, readdressed
from homeserver.protocol.stanza import IQ, Stanza
from homeserver.protocol.xml import Element, element, serialise


def item(contact: Contact) -> Element:
    """The ``<item/>`` of a contact; of one that is not listed, the ``subscription='remove'`` of a push."""
    if not contact.listed:
        return element(ns.ROSTER, "item", {"jid": str(contact.jid), "subscription": "remove"})
    attributes = {"jid": str(contact.jid), "subscription": contact.state.subscription}
    if contact.name:
        attributes["name"] = contact.name
    if contact.state.is_asking:
        attributes["ask"] = "subscribe"
    if contact.approved:
        attributes["approved"] = "true"
    groups = (element(ns.ROSTER, "group", None, group) for group in contact.groups)
    return element(ns.ROSTER, "item", attributes, *groups)


def query(version: int, contacts: Iterable[Contact]) -> Element:
    """The content of a roster result or push."""
    return element(ns.ROSTER, "query", {"ver": str(version)}, *map(item, contacts))


def push(contact: Contact, to: JID) -> Stanza:
    """The push that tells the session ``to`` of one change. Its ``ver`` is the contact's own version, which no other
    push of this roster carries (RFC 6121 s2.6.3)."""
    request = Element(IQ, {"type": "set", "id": f"roster-{contact.version}"})
    request.append(query(contact.version, (contact,)))
    return Stanza(request, to.to_bare(), to)


def request(account: JID, contact: JID, words: str = "", token: str = "") -> Stanza:
    """A subscription request. ``words`` are for the contact's user, ``token`` is an invitation of the contact's
    (XEP-0379 s3.4)."""
    status = [element(ns.CLIENT, "status", None, words)] if words else []
    preauth = [element(ns.PRE_AUTHENTICATION, "preauth", {"token": token})] if token else []
    return presence(SUBSCRIBE, account, contact, None, *status, *preauth)


def text(request: Stanza) -> bytes:
    """A subscription request as it is kept, without its addressee."""
    copy = readdressed(request, request.sender, request.sender).element
    copy.set("from", str(request.sender))
    return serialise(copy, default="").encode()
