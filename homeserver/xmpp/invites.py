"""Subscription requests that bring an invitation (XEP-0379): granted and returned without asking anybody."""

from homeserver.domain.accounts import Account
from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import child
from homeserver.services.contacts import Contacts
from homeserver.services.invites import Invites
from homeserver.xmpp.feature import feature


@feature(xep=379, version="0.3.3")
class Invitations:
    """Reads the token of a request; the contacts service asks about every request for an account here."""

    invites: Invites
    contacts: Contacts

    def __post_init__(self) -> None:
        self.contacts.admits = self.admits

    async def admits(self, account: Account, request: Stanza) -> bool:
        """Whether the request holds a valid token of ``account``, which is used by that (XEP-0379 s3.5, s5.2).

        A wrong token counts as none (s4.1), and nothing is used by somebody who is a subscriber already.
        """
        found = child(request.element, ns.PRE_AUTHENTICATION, "preauth")
        if found is None:
            return False
        contact = (await self.contacts.roster(account)).get(request.sender.bare)
        if contact is not None and contact.state.shares:
            return False
        return await self.invites.redeem(account, found.get("token", ""))
