"""What a bound client sends: from an event of the stream to the dispatcher, and the acknowledgement back.

A stanza counts as handled (XEP-0198 s4) when its work is done: a message when it is durable, anything else when its
handler has returned. For a stream that can be resumed the counter is written in the commit of the stanzas it counts.
"""

from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from client_api.xmpp.resumption import Resumption
from client_api.xmpp.session import XmppSession
from homeserver.domain.errors import RateLimited, ResourceConstraint
from homeserver.domain.messages import Stored
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.stanza import IQ, MESSAGE, Stanza, StanzaError, error_reply
from homeserver.protocol.stream_events import AckReceived, StanzaReceived
from homeserver.services.mailboxes import Mailboxes
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.errors import stanza_error

if TYPE_CHECKING:
    from client_api.xmpp.connection import Connection


class Stanzas:
    """Shared by all connections of the server; keeps nothing per client."""

    def __init__(self, dispatcher: Dispatcher, mailboxes: Mailboxes, resumption: Resumption) -> None:
        self._dispatcher = dispatcher
        self._mailboxes = mailboxes
        self._resumption = resumption
        self.messages = 0
        self.presences = 0
        self.iqs = 0

    def counts(self) -> dict[str, int]:
        """Stanzas taken since the start, by kind."""
        return {"message": self.messages, "presence": self.presences, "iq": self.iqs}

    def received(self, connection: "Connection", session: XmppSession, event: StanzaReceived) -> Awaitable[None] | None:
        """Take one stanza; an awaitable holds up what follows it."""
        element, attributes = event.element, event.element.attrib
        claimed = attributes.get("from")
        if claimed is not None and not self._owns(session, claimed):
            connection.end("invalid-from", "The sender is the account that logged in")
            return None
        text = attributes.get("to")
        try:
            to = JID.parse(text) if text else None
        except InvalidJID:
            self._refuse(session, Stanza(element, session.jid, None), StanzaError("jid-malformed"), text)
            self._done(connection, session, event.position)
            return None
        tag = element.tag
        if tag == MESSAGE:
            self.messages += 1
            if to is None:
                to = session.jid.to_bare()
            then = partial(self._stored, connection, session, event)
            waiting = self._dispatcher.message(session, element, event.raw, to, session.start, then)
            if waiting is not None:
                return self._queued(waiting, session, event.position)
            session.received = event.position
            self._resumption.handled(session)
            return None
        stanza = Stanza(element, session.jid, to)
        if tag == IQ:
            self.iqs += 1
            waiting = self._dispatcher.iq(session, stanza, session.write)
        else:
            self.presences += 1
            waiting = self._dispatcher.presence(session, stanza)
        if waiting is None:
            self._done(connection, session, event.position)
            return None
        return self._after(waiting, connection, session, event.position)

    def acknowledge(self, connection: "Connection", session: XmppSession) -> None:
        """The client asks how far we are: answer when all before is durable (XEP-0198 s4)."""
        self._resumption.handled(session)
        self._mailboxes.follow(partial(self._acknowledge, connection))

    def acknowledged(self, session: XmppSession, event: AckReceived) -> None:
        """The client has handled what it was sent."""
        if event.released:
            self._resumption.acknowledged(session, session.acknowledged(event.released))

    async def _queued(self, waiting: Awaitable[None], session: XmppSession, count: int) -> None:
        """The message enters the open commit when the look-up is done, and its count with it."""
        await waiting
        session.received = count
        self._resumption.handled(session)

    async def _after(
        self, waiting: Awaitable[None], connection: "Connection", session: XmppSession, position: int
    ) -> None:
        await waiting
        self._done(connection, session, position)

    def _done(self, connection: "Connection", session: XmppSession, position: int) -> None:
        session.received = position
        if session.stream is not None:
            self._resumption.changed(session)
        connection.stream.handled(position)

    def _stored(
        self,
        connection: "Connection",
        session: XmppSession,
        event: StanzaReceived,
        stored: Stored | None,
        error: BaseException | None,
    ) -> None:
        """After the commit. A message that could not be stored is refused, so that its sender knows."""
        if error is not None:
            refusal = (
                error
                if isinstance(error, RateLimited | ResourceConstraint)
                else ResourceConstraint("The server cannot store messages now, send it again later")
            )
            text = event.element.get("to")
            self._refuse(session, Stanza(event.element, session.jid, None), stanza_error(refusal), text)
        connection.stream.handled(event.position)

    @staticmethod
    def _acknowledge(connection: "Connection", _error: BaseException | None) -> None:
        connection.stream.acknowledge()
        connection.flush()

    @staticmethod
    def _refuse(session: XmppSession, stanza: Stanza, error: StanzaError, to: str | None) -> None:
        if stanza.type in ("error", "result"):
            return
        reply = error_reply(stanza, error)
        if to is not None:
            reply.set("from", to)
        session.send(Stanza(reply, stanza.to or session.jid.to_bare(), session.jid))

    @staticmethod
    def _owns(session: XmppSession, claimed: str) -> bool:
        """RFC 6120 s8.1.2.1: the full or the bare JID of this session."""
        try:
            jid = JID.parse(claimed)
        except InvalidJID:
            return False
        return jid == session.jid or jid == session.jid.to_bare()
