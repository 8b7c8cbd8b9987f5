"""Rosters as clients get and change them (RFC 6121 s2)."""

import asyncio
from collections.abc import Sequence

from homeserver.domain.errors import BadRequest, DomainError, Forbidden, JidMalformed, ServiceUnavailable
from homeserver.domain.rosters import Contact
from homeserver.domain.sessions import Session
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element, children
from homeserver.services import roster_stanzas
from homeserver.services.contacts import Contacts
from homeserver.services.presence import Presence
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq


@feature(rfc="RFC 6121", version="2011-03", disco=(ns.ROSTER,))
class CoreRoster:
    """Roster get and set. Pushes are made by the contacts service, which knows what changed."""

    contacts: Contacts
    presence: Presence

    @on_iq("get", ns.ROSTER, "query")
    async def get(self, request: IqRequest) -> Element | None:
        """RFC 6121 s2.1.3, s2.6: the whole roster, or what changed since the client's version."""
        session, account = request.session, request.account
        if session is None or account is None or len(request.payload):
            raise BadRequest("a roster is asked for with an empty query")
        roster = await self.contacts.roster(account)
        # From here to the reply nothing waits: no push can come before a result that is older than it.
        session.wants_roster = True
        version = _version(request.payload.get("ver"))
        changed = None if version is None else roster.changed_since(version)
        if changed is None:
            return roster_stanzas.listing(roster.version, roster.listed())
        if changed:
            asyncio.get_running_loop().call_soon(_push, session, changed)
        return None

    @on_iq("set", ns.ROSTER, "query")
    async def set(self, request: IqRequest) -> Element | None:
        """RFC 6121 s2.3 to s2.5: add, change or remove one contact."""
        items = list(children(request.payload, ns.ROSTER, "item"))
        if request.account is None or len(items) != 1:
            raise BadRequest("a roster set has one item")
        item = items[0]
        try:
            jid = JID.parse(item.attrib["jid"])
        except KeyError as error:
            raise BadRequest("an item has an address") from error
        except InvalidJID as error:
            raise JidMalformed(str(error)) from error
        if item.get("subscription") == "remove":
            await self.contacts.remove(request.account, jid)
        else:
            groups = [group.text or "" for group in children(item, ns.ROSTER, "group")]
            await self.contacts.set(request.account, jid, item.get("name", ""), groups)
        return None

    @on_iq("get", ns.ROSTER, "query", to=Addressee.ACCOUNT)
    async def get_of_another(self, request: IqRequest) -> Element | None:
        """A roster is for its owner only."""
        raise await self._refusal(request)

    @on_iq("set", ns.ROSTER, "query", to=Addressee.ACCOUNT)
    async def set_of_another(self, request: IqRequest) -> Element | None:
        """RFC 6121 s2.3.3: who is not authorised is refused."""
        raise await self._refusal(request)

    async def _refusal(self, request: IqRequest) -> DomainError:
        """``forbidden`` to those who may know the account exists; to others the answer of an account that does not."""
        if request.account is not None and await self.presence.may_see(request.account, request.sender):
            return Forbidden()
        return ServiceUnavailable()


def _version(text: str | None) -> int | None:
    """A version as this server writes them; None for anything else, which gets the whole roster."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 16:
        return None
    return int(text)


def _push(session: Session, changed: Sequence[Contact]) -> None:
    """What changed since the client's version, oldest change first, after the empty result (RFC 6121 s2.6.3)."""
    for contact in changed:
        session.send(roster_stanzas.push(contact, session.jid))
