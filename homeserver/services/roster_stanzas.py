"""Roster items, results and pushes as stanzas (RFC 6121 s2.1)."""

from collections.abc import Iterable
from typing import Final

from homeserver.domain.rosters import Contact
from homeserver.domain.subscriptions import SUBSCRIBE, State
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.presence import presence, readdressed
from homeserver.protocol.stanza import IQ, Stanza
from homeserver.protocol.xml import Element, Written, element, escape_attribute, escape_text, serialise

_STATES: Final = tuple(
    f" subscription='{state.subscription}'" + (" ask='subscribe'" if state.is_asking else "") for state in State
)


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


def listing(version: int, contacts: Iterable[Contact]) -> Written:
    """`query` of contacts that are listed, for a result that may be long: written at once."""
    parts = [f"<query xmlns='{ns.ROSTER}' ver='{version}'>"]
    for contact in contacts:
        name = f" name='{escape_attribute(contact.name)}'" if contact.name else ""
        approved = " approved='true'" if contact.approved else ""
        head = f"<item jid='{escape_attribute(contact.jid.bare)}'{_STATES[contact.state]}{name}{approved}"
        if contact.groups:
            groups = "".join([f"<group>{escape_text(group)}</group>" for group in contact.groups])
            parts.append(f"{head}>{groups}</item>")
        else:
            parts.append(f"{head}/>")
    parts.append("</query>")
    made = Written(f"{{{ns.ROSTER}}}query")
    made.text = "".join(parts)
    return made


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
