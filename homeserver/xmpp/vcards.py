"""vCards (XEP-0054), and the announcement that avatars are converted (XEP-0398, XEP-0153)."""

from homeserver.domain.errors import Forbidden, ServiceUnavailable
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element
from homeserver.services.avatars import Avatars
from homeserver.services.profiles import Profiles
from homeserver.xmpp.contact_addresses import Addresses
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

_MAILTO = "mailto:"


@feature(xep=54, version="1.3.0", disco=(ns.VCARD,), account_disco=(ns.VCARD,))
class VCards:
    """Answers for accounts and for the domain. An account without a vCard, one that keeps it from who asks, and one that
    does not exist are told apart by nobody else (s3.3)."""

    profiles: Profiles
    addresses: Addresses

    @on_iq("get", ns.VCARD, "vCard", to=(Addressee.OWN_ACCOUNT, Addressee.ACCOUNT))
    async def show(self, request: IqRequest) -> Element | None:
        """XEP-0054 s3.1, s3.3. Clients that change a part of their vCard ask for it first: the own one is empty, not absent."""
        assert request.account is not None
        found = await self.profiles.vcard(request.account, request.sender)
        if found is not None:
            return found
        if request.addressee is Addressee.OWN_ACCOUNT:
            return element(ns.VCARD, "vCard")
        raise ServiceUnavailable

    @on_iq("set", ns.VCARD, "vCard")
    async def replace(self, request: IqRequest) -> Element | None:
        """XEP-0054 s3.2."""
        assert request.account is not None
        await self.profiles.set_vcard(request.account, request.payload)
        return None

    @on_iq("set", ns.VCARD, "vCard", to=Addressee.DOMAIN)
    async def refuse(self, _request: IqRequest) -> Element | None:
        """XEP-0054 s3.2. That of another account is refused as if there were no such account."""
        raise Forbidden(kind="auth")

    @on_iq("get", ns.VCARD, "vCard", to=Addressee.DOMAIN)
    async def of_domain(self, request: IqRequest) -> Element | None:
        """XEP-0054 s3.3: the server's own, with the addresses that it shows anyway (XEP-0157)."""
        to = request.stanza.to
        domain = request.sender.domain if to is None else to.domain
        made = element(ns.VCARD, "vCard", None, element(ns.VCARD, "FN", None, domain))
        for address in self.addresses.known.get("admin", ()):
            if address.startswith(_MAILTO):
                name = element(ns.VCARD, "USERID", None, address.removeprefix(_MAILTO))
                made.append(element(ns.VCARD, "EMAIL", None, element(ns.VCARD, "INTERNET"), name))
        return made


@feature(xep=292, version="0.12.0", disco=(ns.VCARD4,), account_disco=(ns.VCARD4,))
class VCard4:
    """The newer shape is a node of the account; what both shapes have is the same in both."""

    profiles: Profiles


@feature(xep=398, version="1.0.0", account_disco=(ns.AVATAR_CONVERSION,))
class AvatarConversion:
    """One avatar, whether it was published or came with a vCard; presence names it."""

    avatars: Avatars
