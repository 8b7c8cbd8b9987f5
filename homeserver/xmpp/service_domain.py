"""The domain of a service: it answers IQs, and may take messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from homeserver.domain.accounts import Account
from homeserver.domain.errors import ServiceUnavailable
from homeserver.domain.messages import Message, Stored
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza
from homeserver.xmpp.feature import Addressee

if TYPE_CHECKING:
    from homeserver.xmpp.dispatch import Dispatcher

Then = Callable[[Stored | None, BaseException | None], None]


class ServiceDomain:
    """What is attached to the domain of a service: it answers IQs, and takes messages that its service knows."""

    def __init__(
        self, dispatcher: Dispatcher, addressee: Addressee, message: Callable[[JID, Message], bool] | None
    ) -> None:
        self._dispatcher = dispatcher
        self._addressee = addressee
        self._message = message

    def route(self, stanza: Stanza) -> None:
        if stanza.name == "iq":
            self._dispatcher.background(stanza, self._dispatcher.service_iq(stanza, self._addressee))

    def submit(self, sender: Account | None, source: JID, message: Message, then: Then) -> None:
        if self._message is None or not message.to.is_bare or not self._message(message.to, message):
            raise ServiceUnavailable
        then(None, None)
