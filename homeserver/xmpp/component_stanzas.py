"""What a component sends (XEP-0114 s3): to accounts and services here, to other components, to other servers."""

from collections.abc import Awaitable, Callable

from homeserver.domain.errors import DomainError, JidMalformed
from homeserver.domain.messages import Message, Stored
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza, error_reply
from homeserver.services.messaging import Messaging, not_stored
from homeserver.services.router import Router
from homeserver.xmpp.core_message import Reader
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.errors import stanza_error


class ComponentStanzas:
    """Takes stanzas whose senders a component answers for, as those of another server are taken."""

    def __init__(self, dispatcher: Dispatcher, messaging: Messaging, router: Router) -> None:
        self._dispatcher = dispatcher
        self._messaging = messaging
        self._router = router
        self._reader = Reader(router.domains)

    def take(self, stanza: Stanza, done: Callable[[], None]) -> Awaitable[None] | None:
        """Take one stanza; an awaitable holds up what follows it. ``done`` is called once, for a message when it is
        durable or refused."""
        to = stanza.to
        if to is None:
            self._refuse(stanza, JidMalformed("The address is none"))
            done()
            return None
        if stanza.name == "message":
            if not self._messaging.knows(to, stanza.sender):
                return self._message_later(stanza, to, done)
            self._message(stanza, to, done)
            return None
        done()
        if self._router.is_served(to.domain):
            return self._dispatcher.inbound(stanza)
        self._router.route(stanza)
        return None

    async def _message_later(self, stanza: Stanza, to: JID, done: Callable[[], None]) -> None:
        await self._messaging.prepare(to, stanza.sender)
        self._message(stanza, to, done)

    def _message(self, stanza: Stanza, to: JID, done: Callable[[], None]) -> None:
        def then(_stored: Stored | None, error: BaseException | None) -> None:
            if error is not None:
                self._refuse(stanza, not_stored(error))
            done()

        try:
            message: Message = self._reader.read_from_peer(stanza, None)
            if self._router.is_served(to.domain):
                self._messaging.receive(message, then)
            else:
                self._messaging.relay(message, then, self._router.origin(stanza.sender.domain))
        except DomainError as refusal:
            self._refuse(stanza, refusal)
            done()

    def _refuse(self, stanza: Stanza, refusal: DomainError) -> None:
        if stanza.type in ("error", "result"):
            return
        reply = error_reply(stanza, stanza_error(refusal))
        if stanza.to is None:
            reply.set("from", stanza.element.get("to", ""))
        sender = stanza.to or JID("", self._router.origin(stanza.sender.domain), "")
        self._router.route(Stanza(reply, sender, stanza.sender))
