"""From a stanza to its handler: by addressee, kind and payload.

The same dispatcher serves local sessions and peers. Handlers raise `DomainError`; it becomes the error reply here and
nowhere else. A handler that waits is returned as an awaitable: a client's later stanzas queue behind it, so what one
client asks for happens in the order it asked (RFC 6120 s10.1).
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import BadRequest, DomainError, ServiceUnavailable, StorageFull
from homeserver.domain.messages import Message, Stored
from homeserver.domain.sessions import Session
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import LANG, Stanza, StanzaError, error_reply, result
from homeserver.protocol.xml import Element
from homeserver.services.accounts import Accounts, Unknown
from homeserver.services.enquiries import Enquiries
from homeserver.services.messaging import Messaging
from homeserver.services.privacy import Privacy, blocked_error
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.storage.faults import is_full
from homeserver.xmpp.core_message import Reader, StartTag, start_tag
from homeserver.xmpp.errors import stanza_error
from homeserver.xmpp.feature import SERVICES, Addressee, Handlers, IqKey, IqRequest
from homeserver.xmpp.message_parts import MessageParts
from homeserver.xmpp.service_domain import ServiceDomain

log = structlog.get_logger(__name__)

_IQ_TYPES: Final = frozenset(("get", "set", "result", "error"))
_REQUESTS: Final = frozenset(("get", "set"))
MAX_BACKGROUND: Final = 1000

Then = Callable[[Stored | None, BaseException | None], None]


class Dispatcher:
    """Gives every stanza to the one place that handles it."""

    def __init__(
        self,
        handlers: Handlers,
        accounts: Accounts,
        sessions: Sessions,
        router: Router,
        messaging: Messaging,
        enquiries: Enquiries,
        privacy: Privacy,
    ) -> None:
        self._iq = handlers.iq
        self._presence = handlers.presence
        self._parts = MessageParts(handlers.parts)
        self._accounts = accounts
        self._sessions = sessions
        self._router = router
        self._messaging = messaging
        self._enquiries = enquiries
        self._privacy = privacy
        self._reader = Reader(router.domains)
        self._background: set[asyncio.Task[None]] = set()
        router.on_local = self.local

    def serve(self, domain: str, addressee: Addressee, message: Callable[[JID, Message], bool] | None = None) -> None:
        """Answer IQs to a service of its own domain by the handlers marked with ``addressee``. ``message`` is given each
        message to the domain's address and tells whether it took it."""
        self._router.attach(domain, ServiceDomain(self, addressee, message))

    def service_iq(self, stanza: Stanza, addressee: Addressee) -> Awaitable[None] | None:
        """Take an IQ for a service."""
        if not self._well_formed(stanza):
            return None
        if stanza.to is not None and not stanza.to.local and not stanza.to.resource:
            return self._handle(stanza, None, None, addressee, None)
        self._refuse(stanza, ServiceUnavailable())
        return None

    # --- from a local session -------------------------------------------------------------------------------------

    def message(
        self, session: Session, element: Element, raw: bytes | None, to: JID, start: StartTag, then: Then
    ) -> Awaitable[None] | None:
        """Take a client's message; ``then`` is called once when it is durable, refused or dropped.

        ``start`` is the session's own start tag (see `Reader.read`).
        """
        if self._parts.may_have(element, raw):
            return self._message_after(self._parts.take(session, element), session, element, to, start, then)
        if not self._messaging.knows(to, session.jid, session.account):
            return self._message_later(session, element, raw, to, start, then)
        self._submit(session, self._reader.read(element, raw, session.jid, to, start, True), element, then)
        return None

    async def _message_after(
        self, first: Awaitable[None], session: Session, element: Element, to: JID, start: StartTag, then: Then
    ) -> None:
        await first
        await self._message_later(session, element, None, to, start, then)

    async def _message_later(
        self, session: Session, element: Element, raw: bytes | None, to: JID, start: StartTag, then: Then
    ) -> None:
        await self._messaging.prepare(to, session.jid, session.account)
        message = self._reader.read(element, raw, session.jid, to, start, True)
        await self._messaging.prepare_copies(session.account, session.jid, message)
        self._submit(session, message, element, then)

    def _submit(self, session: Session, message: Message, element: Element, then: Then) -> None:
        try:
            self._messaging.submit(session.account, session.jid, message, then)
        except DomainError as refusal:
            self._refuse(Stanza(element, session.jid, message.to), refusal)
            then(None, None)

    def presence(self, session: Session, stanza: Stanza) -> Awaitable[None] | None:
        """Take a client's presence."""
        handler = self._presence.get((stanza.type, True))
        if handler is None:
            self._refuse(stanza, BadRequest("Unknown type of presence"))
            return None
        if stanza.to is not None:
            barred = self._privacy.bars(session.account, stanza.to)
            if barred is None:
                return self._known_first(session.account, partial(self.presence, session, stanza))
            if barred:
                self._refuse(stanza, blocked_error())
                return None
        try:
            return self._guard(stanza, handler(session, stanza))
        except DomainError as refusal:
            self._refuse(stanza, refusal)
            return None

    def iq(self, session: Session, stanza: Stanza, respond: Callable[[bytes], None] | None) -> Awaitable[None] | None:
        """Take a client's IQ: answer it, or pass it on."""
        if not self._well_formed(stanza):
            return None
        to = stanza.to
        if to is None or (to.is_bare and to.bare == session.jid.bare):
            return self._handle(stanza, session, session.account, Addressee.OWN_ACCOUNT, respond)
        barred = self._privacy.bars(session.account, to)
        if barred is None:
            return self._known_first(session.account, partial(self.iq, session, stanza, respond))
        if barred:
            self._refuse(stanza, blocked_error())
            return None
        if not self._router.is_local(to.domain):
            self._router.route(stanza)
            return None
        return self._local_iq(stanza, to, session, respond)

    # --- from anyone, for an address here ---------------------------------------------------------------------------

    def local(self, stanza: Stanza) -> None:
        """Deliver a stanza to a local address; what has to wait goes on in the background."""
        self.background(stanza, self._inbound(stanza))

    def background(self, stanza: Stanza, waiting: Awaitable[None] | None) -> None:
        """Let the rest of a stanza's handling go on without anybody waiting for it."""
        if waiting is None:
            return
        if len(self._background) >= MAX_BACKGROUND:
            log.warning("dropped a stanza, too many wait", sender=str(stanza.sender), name=stanza.name)
            if asyncio.iscoroutine(waiting):
                waiting.close()
            return
        task = asyncio.ensure_future(_finish(waiting))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def inbound(self, stanza: Stanza) -> Awaitable[None] | None:
        """Take a stanza for a local address whose sender is vouched for.

        An awaitable is returned where the work is not done yet; subscription stanzas are durable when it completes.
        """
        to = stanza.to
        if to is not None and self._router.bars(to, stanza.sender):
            if stanza.name != "presence" and stanza.type not in ("error", "result"):
                error = error_reply(stanza, StanzaError("service-unavailable"))
                self._router.send_away(Stanza(error, to, stanza.sender), stanza.sender)
            return None
        return self._inbound(stanza)

    def _inbound(self, stanza: Stanza) -> Awaitable[None] | None:
        to = stanza.to
        if to is None:
            return None
        if to.domain in self._router.attached and not self._router.is_local(to.domain):
            self._router.attached[to.domain].route(stanza)
            return None
        if stanza.name == "iq":
            return self._local_iq(stanza, to, None, None) if self._well_formed(stanza) else None
        if stanza.name == "presence":
            return self._inbound_presence(stanza, to)
        return self._inbound_message(stanza, to)

    def read(self, stanza: Stanza) -> Any:
        """The message value of a peer's message stanza; its sender was proven by the transport."""
        assert stanza.to is not None
        start = start_tag(stanza.sender, stanza.element.get(LANG, ""))
        return self._reader.read(stanza.element, None, stanza.sender, stanza.to, start, False)

    def _inbound_message(self, stanza: Stanza, to: JID) -> Awaitable[None] | None:
        """A message that is not stored on its way in: errors and what the passing lane carries."""
        if not to.local:
            return None
        if not self._messaging.knows(to, stanza.sender):
            return self._inbound_message_later(stanza, to)
        try:
            self._messaging.receive(self.read(stanza), _ignore)
        except DomainError as refusal:
            self._refuse(stanza, refusal)
        return None

    async def _inbound_message_later(self, stanza: Stanza, to: JID) -> None:
        await self._messaging.prepare(to, stanza.sender)
        self._inbound_message(stanza, to)

    def _inbound_presence(self, stanza: Stanza, to: JID) -> Awaitable[None] | None:
        if not to.local:
            return None
        handler = self._presence.get((stanza.type, False))
        if handler is None:
            return None
        account = self._here(to)
        if isinstance(account, Unknown):
            return self._inbound_presence_later(stanza, to)
        if account is not None:
            barred = self._privacy.bars(account, stanza.sender)
            if barred is None:
                return self._known_first(account, partial(self._inbound_presence, stanza, to))
            if barred:
                return None  # XEP-0191 s3.3: no answer and no error
        if account is None and stanza.type != "probe":
            return None  # RFC 6121 s8.5.1: presence for nobody is ignored, but a probe is answered as by a stranger
        return handler(account, stanza)

    async def _inbound_presence_later(self, stanza: Stanza, to: JID) -> None:
        await self._accounts.find(to.bare)
        waiting = self._inbound_presence(stanza, to)
        if waiting is not None:
            await waiting

    def _here(self, to: JID) -> Account | Unknown | None:
        """The account of an address, as far as that is known without waiting."""
        found = self._accounts.peek(to.bare)
        return found if isinstance(found, Unknown) else _existing(found)

    def _local_iq(
        self, stanza: Stanza, to: JID, session: Session | None, respond: Callable[[bytes], None] | None
    ) -> Awaitable[None] | None:
        if not to.local:
            return self._handle(stanza, session, None, Addressee.DOMAIN, respond)
        target = self._sessions.find(to) if to.resource else None
        if to.resource and target is None:
            self._refuse(stanza, ServiceUnavailable())
            return None
        account = self._here(to) if target is None else target.account
        if isinstance(account, Unknown):
            return self._account_iq_later(stanza, to, session, respond)
        if account is not None:
            barred = self._privacy.bars(account, stanza.sender)
            if barred is None:
                return self._known_first(account, partial(self._local_iq, stanza, to, session, respond))
            if barred:
                self._refuse(stanza, ServiceUnavailable())  # XEP-0191 s3.3
                return None
        if target is not None:
            if stanza.type not in _REQUESTS or _may_ask(target, stanza.sender):
                target.send(stanza)
            else:
                self._refuse(stanza, ServiceUnavailable())
            return None
        return self._handle(stanza, session, account, Addressee.ACCOUNT, respond)

    async def _account_iq_later(
        self, stanza: Stanza, to: JID, session: Session | None, respond: Callable[[bytes], None] | None
    ) -> None:
        await self._accounts.find(to.bare)
        waiting = self._local_iq(stanza, to, session, respond)
        if waiting is not None:
            await waiting

    async def _known_first(self, account: Account, then: Callable[[], Awaitable[None] | None]) -> None:
        """Go on when it is known whom an account blocks."""
        await self._privacy.load(account)
        waiting = then()
        if waiting is not None:
            await waiting

    def _handle(
        self,
        stanza: Stanza,
        session: Session | None,
        account: Account | None,
        addressee: Addressee,
        respond: Callable[[bytes], None] | None,
    ) -> Awaitable[None] | None:
        if stanza.type not in _REQUESTS:
            self._enquiries.answered(stanza)  # or it is an answer to something this server did not ask
            return None
        payload = stanza.element[0]
        handler = self._iq.get(IqKey(stanza.type, payload.tag, addressee))
        if handler is None or (account is None and addressee not in SERVICES):
            self._refuse(stanza, ServiceUnavailable())
            return None
        request = IqRequest(stanza, payload, stanza.sender, session, account, addressee, respond)
        return self._answer(request, handler(request))

    async def _answer(self, request: IqRequest, work: Awaitable[Element | None]) -> None:
        try:
            payload = await work
        except DomainError as refusal:
            self._refuse(request.stanza, refusal)
        except Exception as error:
            if is_full(error):
                self._refuse(request.stanza, StorageFull("Nothing was changed, try again later"))
                return
            log.exception("handler failed", payload=request.payload.tag, sender=str(request.sender))
            self._reply(request.stanza, error_reply(request.stanza, StanzaError("internal-server-error")))
        else:
            self._reply(request.stanza, result(request.stanza, payload))

    def _guard(self, stanza: Stanza, waiting: Awaitable[None] | None) -> Awaitable[None] | None:
        return None if waiting is None else self._guarded(stanza, waiting)

    async def _guarded(self, stanza: Stanza, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except DomainError as refusal:
            self._refuse(stanza, refusal)

    def _well_formed(self, stanza: Stanza) -> bool:
        """RFC 6120 s8.2.3; a request that breaks the rules is refused, an answer ignored."""
        kind = stanza.type
        if kind in _REQUESTS and stanza.id is not None and len(stanza.element) == 1:
            return True
        if kind in ("result", "error") and stanza.id is not None:
            return True
        if kind not in ("result", "error"):
            self._refuse(stanza, BadRequest("An IQ has an id, a defined type and one payload"))
        return False

    def _refuse(self, stanza: Stanza, refusal: DomainError) -> None:
        """Answer with an error, except to an error or a result (RFC 6120 s8.3.1)."""
        if stanza.type in ("error", "result") or (stanza.name == "presence" and stanza.type == "unavailable"):
            return
        self._reply(stanza, error_reply(stanza, stanza_error(refusal)))

    def _reply(self, stanza: Stanza, answer: Element) -> None:
        sender = stanza.to if stanza.to is not None else stanza.sender.to_bare()
        reply = Stanza(answer, sender, stanza.sender)
        if self._router.is_local(stanza.sender.domain):
            session = self._sessions.find(stanza.sender)
            if session is not None:
                session.send(reply)
            elif stanza.name == "iq":
                self._enquiries.answered(reply)
        else:
            self._router.route(reply)


def _existing(account: Account | None) -> Account | None:
    """A deleted account keeps its name and is otherwise nobody."""
    return None if account is not None and account.state is AccountState.DELETED else account


def _may_ask(target: Session, sender: JID) -> bool:
    """RFC 6121 s8.5.3.1: a stranger learns nothing from asking a full JID; own sessions may always ask."""
    return target.jid.bare == sender.bare or target.is_visible_to(sender)


def _ignore(_stored: Stored | None, _error: BaseException | None) -> None:
    """A passing stanza owes nobody an answer."""


async def _finish(waiting: Awaitable[None]) -> None:
    try:
        await waiting
    except DomainError as refusal:
        log.info("refused a stanza", reason=type(refusal).__name__)
    except Exception:
        log.exception("handling a stanza failed")
