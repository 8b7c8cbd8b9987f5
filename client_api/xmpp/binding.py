"""From an open stream to a bound session: TLS, login, resource, resumption.

Answers the questions of the protocol core for one connection after the other; keeps nothing per client.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from client_api.xmpp.admission import Admission
from client_api.xmpp.negotiation import Negotiation
from client_api.xmpp.resumption import Resumption, State
from client_api.xmpp.session import XmppSession
from homeserver.domain.accounts import Account
from homeserver.domain.errors import (
    AccountDisabled,
    Conflict,
    DomainError,
    NotAuthorized,
    RateLimited,
    ResourceConstraint,
)
from homeserver.protocol.jid import JID
from homeserver.protocol.sm import SentQueue
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.stream_events import (
    Authenticated,
    BindRequested,
    PasswordPresented,
    PreAuthIq,
    ResumeRequested,
    SmEnableRequested,
    StreamOpened,
    TlsRequested,
    TokensNeeded,
    UpgradeOffered,
    UpgradesWanted,
    VerifierNeeded,
)
from homeserver.protocol.xml import parse_stanza
from homeserver.services.backlog import Past
from homeserver.services.delivery import Delivery
from homeserver.services.presence import Presence
from homeserver.services.sessions import Sessions
from homeserver.services.streams import ResumableStream
from homeserver.storage.faults import is_full
from homeserver.xmpp.archive import Archive

if TYPE_CHECKING:
    from client_api.xmpp.connection import Connection

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """What a session keeps until the client confirms it."""

    items: int
    bytes: int


class Binding:
    """Makes sessions, and finds those that are resumed."""

    def __init__(
        self,
        negotiation: Negotiation,
        sessions: Sessions,
        delivery: Delivery,
        presence: Presence,
        resumption: Resumption,
        archive: Archive,
        bounds: QueueBounds,
    ) -> None:
        self._negotiation = negotiation
        self._sessions = sessions
        self._delivery = delivery
        self._presence = presence
        self._resumption = resumption
        self._archive = archive
        self._bounds = bounds
        self.admission = Admission()
        self._table: dict[type, Callable[[Connection, Any], Awaitable[None] | None]] = {
            StreamOpened: self._opened,
            TlsRequested: self._secure,
            VerifierNeeded: self._verifier,
            PasswordPresented: self._password,
            TokensNeeded: self._tokens,
            UpgradesWanted: self._upgrades,
            UpgradeOffered: self._upgrade,
            Authenticated: self._authenticated,
            BindRequested: self._bind,
            SmEnableRequested: self._enable,
            ResumeRequested: self._resume,
            PreAuthIq: self._register,
        }

    def take(self, connection: "Connection", event: object) -> Awaitable[None] | None:
        """Deal with one event of a stream that has no session yet, or that manages its session."""
        handler = self._table.get(type(event))
        waiting = None if handler is None else handler(connection, event)
        # A handshake goes on at once: its two ends must agree which bytes are TLS.
        return waiting if waiting is None or handler == self._secure else self.admission.paced(waiting)

    def lost(self, session: XmppSession, farewell: bool) -> None:
        """The connection of a session is gone."""
        self._resumption.lost(session, farewell)

    def failed(self, connection: "Connection") -> None:
        """Count an attempt to log in that did not end well."""
        attempt, connection.attempt = connection.attempt, None
        if attempt is not None:
            self._negotiation.failed(connection.peer, attempt)

    # --- before login -------------------------------------------------------------------------------------------------

    def _opened(self, connection: "Connection", event: StreamOpened) -> None:
        connection.lang = event.lang

    async def _secure(self, connection: "Connection", _event: TlsRequested) -> None:
        if connection.holds_input:  # it came in the clear and must not be taken for what TLS protected
            connection.end("policy-violation", "data between STARTTLS and the handshake")
            return
        connection.stream.start_tls()
        connection.flush()
        bindings = await connection.wire.start_tls()
        if bindings is None:
            return
        connection.peer = connection.peer.secured()
        connection.stream.tls_established(bindings)

    async def _register(self, connection: "Connection", event: PreAuthIq) -> None:
        if connection.registration is None:
            connection.registration = self._negotiation.registration(event.domain, connection.peer)
        connection.stream.send_stanza(await connection.registration.answer(event.element))

    async def _verifier(self, connection: "Connection", event: VerifierNeeded) -> None:
        self.failed(connection)
        jid = JID(event.username, event.domain)
        try:
            found = await self._negotiation.verifier(connection.peer, jid, event.hash_name)
        except RateLimited as refusal:
            connection.stream.reject("temporary-auth-failure", refusal.text)
            return
        connection.attempt = jid
        connection.stream.verifier(found)

    async def _password(self, connection: "Connection", event: PasswordPresented) -> None:
        self.failed(connection)
        jid = JID(event.username, event.domain)
        try:
            await self._negotiation.check_password(connection.peer, jid, event.password)
        except NotAuthorized:
            self._negotiation.failed(connection.peer, jid)
            connection.stream.password_result(False)
        except (RateLimited, ResourceConstraint) as refusal:
            connection.stream.reject("temporary-auth-failure", refusal.text)
        else:
            connection.stream.password_result(True)

    async def _tokens(self, connection: "Connection", event: TokensNeeded) -> None:
        self.failed(connection)
        jid = JID(event.username, event.domain)
        try:
            found = await self._negotiation.tokens(connection.peer, jid, event.client, event.mechanism)
        except RateLimited as refusal:
            connection.stream.reject("temporary-auth-failure", refusal.text)
            return
        connection.attempt = jid
        connection.stream.tokens(found)

    async def _upgrades(self, connection: "Connection", event: UpgradesWanted) -> None:
        connection.attempt = None
        connection.stream.upgrades(await self._negotiation.salts(event.account, event.hash_names))

    async def _upgrade(self, connection: "Connection", event: UpgradeOffered) -> None:
        await self._negotiation.upgrade(event)
        connection.stream.upgraded()

    async def _authenticated(self, connection: "Connection", event: Authenticated) -> None:
        connection.attempt = None
        try:
            account = await self._negotiation.proven(event.account)
            issued = await self._negotiation.visited(account, event)
            connection.known(account, self._negotiation.pace(connection.peer, account))
        except AccountDisabled:
            connection.stream.reject("account-disabled")
        except NotAuthorized:
            self._negotiation.failed(connection.peer, event.account)
            connection.stream.reject("not-authorized" if event.use is None else "credentials-expired")
        else:
            connection.stream.accept(issued)

    # --- a new session ------------------------------------------------------------------------------------------------

    def _bind(self, connection: "Connection", event: BindRequested) -> Awaitable[None] | None:
        if event.is_bind2:
            return self._bind_with_archive(connection, event)
        session = self._begin(connection, event)
        if session is not None:
            connection.stream.bound(session.jid)
        return None

    async def _bind_with_archive(self, connection: "Connection", event: BindRequested) -> None:
        """Bind 2: an earlier session of the same client ends, and the archive is described (XEP-0386 s3.2).

        The session is there before the archive is read, so nothing falls between: what comes later comes live.
        """
        account = self._account(connection)
        client = event.user_agent.id if event.user_agent is not None else None
        for other in self._sessions.of(account.jid.bare):
            if client is not None and isinstance(other, XmppSession) and other.device == client:
                other.disconnect("conflict", "The same client has begun a new session")
        session = self._begin(connection, event)
        if session is not None:
            await self._resumption.durable()
            description = await self._archive.describe(account)
            if connection.session is session:
                connection.stream.bound(session.jid, (description,))

    def _begin(self, connection: "Connection", event: BindRequested) -> XmppSession | None:
        """A session under a resource, or a refusal."""
        account = self._account(connection)
        resource = event.resource or self._negotiation.resource(event.tag)
        session = self._make(account, account.jid.with_resource(resource), connection.lang)
        session.wants_copies = event.wants_carbons
        session.uses_archive = event.is_bind2
        session.device = event.user_agent.id if event.user_agent is not None else None
        try:
            self._sessions.bind(session)
        except Conflict:
            connection.stream.bind_failed("conflict")
            return None
        except ResourceConstraint:
            connection.stream.bind_failed("resource-constraint")
            return None
        connection.session = session
        session.link = connection
        return session

    async def _enable(self, connection: "Connection", event: SmEnableRequested) -> None:
        session = connection.session
        if session is None:
            return
        stream, seconds = None, None
        if event.resume and self._resumption.seconds > 0:
            try:
                stream, seconds = await self._resumption.enable(session), int(self._resumption.seconds)
            except Exception as error:
                if not is_full(error):
                    raise
                # Logins go on when the disk is full; such a session cannot be resumed.
                log.warning("stream cannot be resumed, the store is full", account=session.account.jid.bare)
        # Counting begins with the answer (XEP-0198 s4): what was sent while the row was written is not in the queue.
        session.queue = SentQueue(self._bounds.items, self._bounds.bytes)
        connection.stream.enabled(session.queue, stream, seconds)

    # --- an old session -----------------------------------------------------------------------------------------------

    async def _resume(self, connection: "Connection", event: ResumeRequested) -> None:
        account = self._account(connection)
        session = self._resumption.find(event.previd, account)
        if session is not None:
            await self._take_over(connection, session, event)
            return
        saved = await self._resumption.load(event.previd, account)
        if saved is None:
            connection.stream.resume_failed("item-not-found")
            return
        session, past = self._restored(account, event, *saved)
        position = await self._delivery.reached(session, past)
        await self._resumption.reached(event.previd, event.h, position)
        other = self._resumption.find(event.previd, account)
        if other is not None:
            await self._take_over(connection, other, event)
            return
        session.position = position
        self._rebuild(connection, session, event, past)

    async def _take_over(self, connection: "Connection", session: XmppSession, event: ResumeRequested) -> None:
        """Resume a session of this process. What its old connection sent is settled first, or it would come twice."""
        old = session.link
        session.link = None
        if old is not None:
            old.cut()
        session.looked_at(True)
        await self._resumption.durable()
        queue = session.queue
        if queue is None or session.stream is None:
            connection.stream.resume_failed("item-not-found")
            return
        self._resumption.returned(session)
        self._attach(connection, session, queue, event)

    def _restored(
        self, account: Account, event: ResumeRequested, saved: ResumableStream, state: State
    ) -> tuple[XmppSession, Past]:
        """A session as its row tells of it, not yet bound."""
        session = self._make(account, account.jid.with_resource(saved.resource), state.lang)
        session.wants_copies = state.wants_copies
        session.wants_roster = state.wants_roster
        session.wants_blocks = state.wants_blocks
        session.device = state.device
        session.received = saved.received
        session.since = state.since
        session.priority = state.priority
        if state.presence:
            element = parse_stanza(state.presence.encode())
            session.presence = Stanza(element, session.jid, None)
        past = Past(
            saved.resource,
            state.since,
            saved.sent,
            saved.position,
            saved.marked_sent,
            saved.marked_position,
            event.h,
        )
        return session, past

    def _rebuild(self, connection: "Connection", session: XmppSession, event: ResumeRequested, past: Past) -> None:
        """Resume a session of an earlier process: its row says how far both sides were.

        The row names two places: what the client acknowledged, and what it had been sent at the last commit. If its
        count ``h`` covers the second, everything behind that comes; else what it may lack behind the first. What was
        sent after the row was last written comes once more, with the same stanza-id: nobody knows any more which it was.
        """
        session.queue = SentQueue(self._bounds.items, self._bounds.bytes, event.h)
        shown, session.presence = session.presence, None
        try:
            self._sessions.bind(session)
        except DomainError:
            connection.stream.resume_failed("item-not-found")
            return
        self._resumption.adopt(session, event.previd)
        self._attach(connection, session, session.queue, event)
        self._delivery.returned(session, session.position, past)
        if shown is not None:
            connection.hold(self._presence.available(session, shown))

    def _attach(self, connection: "Connection", session: XmppSession, queue: SentQueue, event: ResumeRequested) -> None:
        released = connection.stream.resumed(queue, event.h, session.received, session.jid)
        if released is None:
            self._resumption.end(session)
            return
        connection.session = session
        session.link = connection
        session.mark()
        self._resumption.acknowledged(session, session.acknowledged(released))

    def _make(self, account: Account, jid: JID, lang: str) -> XmppSession:
        return XmppSession(
            account, jid, lang, self._delivery, self._presence, self._resumption.end, self._resumption.mark
        )

    @staticmethod
    def _account(connection: "Connection") -> Account:
        if connection.account is None:
            raise NotAuthorized
        return connection.account
