"""Accounts over XMPP (XEP-0077): made before login as the policy allows, with an invitation (XEP-0445) or without;
changed and removed after it."""

from homeserver.domain.accounts import Account
from homeserver.domain.errors import (
    BadRequest,
    DomainError,
    NotAcceptable,
    NotAllowed,
    NotFound,
    RateLimited,
    RegistrationClosed,
    ServiceUnavailable,
)
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.stanza import IQ
from homeserver.protocol.xml import Element, child, children, element, text_of
from homeserver.services.accounts import Accounts
from homeserver.services.invites import Offer
from homeserver.services.limits import Limit, Limits, address_key
from homeserver.services.registrations import Registrations
from homeserver.xmpp.errors import stanza_error
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

QUERY = f"{{{ns.REGISTER}}}query"
PRE_AUTHENTICATION = f"{{{ns.PRE_AUTHENTICATION}}}preauth"
INSTRUCTIONS = "Choose a username and a password for use with this service."


class Attempt:
    """Registration on one connection that has not logged in. It makes at most one account (XEP-0077 s3.1.1).

    ``domain`` is the stream's, ``address`` the peer's network address.
    """

    def __init__(self, registrations: Registrations, limits: Limits, domain: str, address: str) -> None:
        self._registrations = registrations
        self._limits = limits
        self._domain = domain
        self._address = address
        self._shown: Offer | None = None
        self._made = False

    async def answer(self, iq: Element) -> Element:
        """The reply to an IQ whose payload is a registration query or an invitation."""
        reply = Element(IQ, {"type": "result", "id": iq.get("id", ""), "from": self._domain})
        try:
            payload = await self._handle(iq)
        except DomainError as refusal:
            reply.set("type", "error")
            reply.append(stanza_error(refusal).to_element())
        else:
            if payload is not None:
                reply.append(payload)
        return reply

    async def _handle(self, iq: Element) -> Element | None:
        payload = iq[0] if len(iq) == 1 else None
        if payload is None or not iq.get("id") or iq.get("type") not in ("get", "set"):
            raise BadRequest("this is no registration")
        if not self._registrations.is_possible:
            raise ServiceUnavailable
        if payload.tag == PRE_AUTHENTICATION and iq.get("type") == "set":
            await self._show(payload.get("token", ""))
            return None
        if payload.tag != QUERY:
            raise BadRequest("this is no registration")
        if self._shown is None and self._registrations.needs_invitation:
            raise RegistrationClosed("an invitation is needed")
        if iq.get("type") == "get":
            return _form(username="" if self._shown is None else self._shown.invitation.username)
        if child(payload, ns.REGISTER, "remove") is not None:
            raise BadRequest("log in to remove an account")
        await self._register(_fields(payload))
        return None

    async def _show(self, token: str) -> None:
        """XEP-0445 s4: it is looked at now and used when the account is made."""
        self._admit("too many invitations from this address")
        offer = await self._registrations.offer(token, self._domain)
        if offer is None:
            raise NotFound("The provided token is invalid or expired")
        self._shown = offer

    async def _register(self, fields: dict[str, str]) -> None:
        if self._made:
            raise NotAcceptable("one account per connection")
        username, password = fields.get("username", ""), fields.get("password", "")
        if not username or not password:
            raise NotAcceptable("username and password are required")
        if self._shown is None:
            self._admit("too many registrations from this address")
        await self._registrations.register(username, self._domain, password, shown=self._shown)
        self._made = True

    def _admit(self, text: str) -> None:
        """Count a token or a registration without one. Raises `RateLimited`."""
        if not self._limits.exempt(self._address):
            wait = self._limits.take(Limit.REGISTRATION, address_key(self._address))
            if wait:
                raise RateLimited(text, wait)


@feature(xep=77, version="2.4", disco=(ns.REGISTER,))
class Registration:
    """Password change and removal for who is logged in; `attempt` for who is not yet."""

    accounts: Accounts
    registrations: Registrations
    limits: Limits

    def attempt(self, domain: str, address: str) -> Attempt:
        """What answers registration queries on a connection before login."""
        return Attempt(self.registrations, self.limits, domain, address)

    @property
    def is_offered(self) -> bool:
        """Whether the stream features name registration (XEP-0077 s8)."""
        return self.registrations.is_possible

    @on_iq("get", ns.REGISTER, "query", to=(Addressee.OWN_ACCOUNT, Addressee.DOMAIN))
    async def fields(self, request: IqRequest) -> Element | None:
        """XEP-0077 s3.1: who asks is registered."""
        account = _asker(request)
        form = _form("You are registered. Send a new password to change it.", account.jid.local)
        form.insert(0, element(ns.REGISTER, "registered"))
        return form

    @on_iq("set", ns.REGISTER, "query", to=(Addressee.OWN_ACCOUNT, Addressee.DOMAIN))
    async def change(self, request: IqRequest) -> Element | None:
        """XEP-0077 s3.2 (removal) and s3.3 (password). What follows from a removal hangs on the accounts service."""
        account = _asker(request)
        if child(request.payload, ns.REGISTER, "remove") is not None:
            if len(request.payload) > 1:
                raise BadRequest("a removal holds nothing else")
            await self.accounts.remove(account)
            return None
        fields = _fields(request.payload)
        username, password = fields.get("username", ""), fields.get("password", "")
        if not username or not password:
            raise BadRequest("username and password are required")
        if not _names(username, account.jid):
            raise NotAllowed("this is another account")
        await self.accounts.change_password(account, password)
        return None


def _asker(request: IqRequest) -> Account:
    """The account of the asking session; others register elsewhere. Raises `RegistrationClosed`."""
    if request.session is None:
        raise RegistrationClosed
    account = request.session.account
    to = request.stanza.to
    if to is not None and to.domain != account.jid.domain:
        raise RegistrationClosed
    return account


def _names(username: str, own: JID) -> bool:
    try:
        named = JID.parse(username if "@" in username else f"{username}@{own.domain}")
    except InvalidJID:
        return False
    return named == own


def _fields(query: Element) -> dict[str, str]:
    """What was filled in: the elements of the query, or the fields of a submitted form (XEP-0077 s4)."""
    form = child(query, ns.DATA_FORM, "x")
    if form is not None and form.get("type") == "submit":
        return {
            field.get("var", ""): text_of(field, ns.DATA_FORM, "value") or ""
            for field in children(form, ns.DATA_FORM, "field")
        }
    return {name: text_of(query, ns.REGISTER, name) or "" for name in ("username", "password")}


def _form(instructions: str = INSTRUCTIONS, username: str = "") -> Element:
    return element(
        ns.REGISTER,
        "query",
        None,
        element(ns.REGISTER, "instructions", None, instructions),
        element(ns.REGISTER, "username", None, *((username,) if username else ())),
        element(ns.REGISTER, "password"),
    )
