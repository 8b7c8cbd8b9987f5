"""Owners answer subscription requests by a form in a message (XEP-0060 s8.6)."""

import asyncio
from typing import Final

import structlog

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, DomainError
from homeserver.domain.messages import Message, Stored
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import parse_stanza
from homeserver.services.pubsub.service import PubSub

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 1000
_MARK: Final = ns.PUBSUB_SUBSCRIBE_AUTHORIZATION.encode()


class Approvals:
    """Reads answers to requests: of accounts that wrote to themselves, and to the service of a domain."""

    def __init__(self, service: PubSub) -> None:
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    def stored(self, stored: Stored, sender: Account | None, recipient: Account | None) -> None:
        """Listens to messages that are durable: an account decides about its own nodes."""
        if sender is not None and recipient is not None and sender.id == recipient.id:
            self.take(recipient.jid, stored.message)

    def take(self, host: JID, message: Message) -> bool:
        """Carry out the decision in a message, in the background; False where there is none."""
        if _MARK not in message.payload or len(self._tasks) >= MAX_WAITING:
            return False
        task = asyncio.get_running_loop().create_task(self._decide(host, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def settle(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _decide(self, host: JID, message: Message) -> None:
        try:
            form = forms.find(parse_stanza(message.payload), ns.PUBSUB_SUBSCRIBE_AUTHORIZATION)
            if form is None or form.type != "submit":
                return
            who = JID.parse(form.first("pubsub#subscriber_jid"))
            allow = form.flag("pubsub#allow")
            node = form.first("pubsub#node")
            if not node:
                raise BadRequest("no node is named")
            await self._service.subscriptions.decide(host, node, message.sender, who, allow)
        except (DomainError, forms.InvalidForm, InvalidJID) as refusal:
            log.info("an answer to a subscription request was refused", host=host.bare, reason=type(refusal).__name__)
        except Exception:
            log.exception("an answer to a subscription request was not carried out", host=host.bare)
