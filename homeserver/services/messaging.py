"""The message pipeline, in one visible order: resolve, authorise, limit, store, deliver.

`Messaging.submit` is what a local sender's face calls, `Messaging.receive` what federation calls. Both are plain calls
up to the group commit; ``then`` follows when the message is durable, and only then may anybody be told so.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import (
    DomainError,
    NotAllowed,
    RemoteServerNotFound,
    ResourceConstraint,
    ServiceUnavailable,
    StorageFull,
)
from homeserver.domain.messages import ARCHIVE, DURABLE, KEEP, Kind, Message, Stored
from homeserver.protocol.jid import JID
from homeserver.services.accounts import UNKNOWN, Accounts, Unknown
from homeserver.services.delivery import Delivery
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.outbox import Outbox
from homeserver.services.router import Router
from homeserver.storage.faults import is_full

Then = Callable[[Stored | None, BaseException | None], None]
"""Told once: the stored message, or why it was not stored."""
Observer = Callable[[Stored, Account | None, Account | None], None]
"""Told of every message when it is durable (or passed by, with the id 0): its local sender and recipient, where local."""

STORED: Final = ARCHIVE | KEEP
_GROUPCHAT: Final = Kind.GROUPCHAT
_DELETED: Final = AccountState.DELETED


class Messaging:
    """Takes messages from local senders and from peers, and answers for them.

    ``on_stored`` is called for each after its commit, before its sessions are given it.
    """

    def __init__(
        self, router: Router, accounts: Accounts, mailboxes: Mailboxes, delivery: Delivery, outbox: Outbox
    ) -> None:
        self._domains = router.domains
        self._federates = router.federates
        self._accounts = accounts
        self._mailboxes = mailboxes
        self._delivery = delivery
        self._outbox = outbox
        self._attached = router.attached
        self._bars = router.bars
        self.on_stored: list[Observer] = []

    def knows(self, to: JID) -> bool:
        """Whether `submit` to this address needs no look-up first; otherwise await `prepare`."""
        return to.domain not in self._domains or self._accounts.peek(to.bare) is not UNKNOWN

    async def prepare(self, to: JID) -> None:
        """Load what `submit` and `receive` must know about a local recipient."""
        await self._accounts.find(to.bare)

    def submit(self, sender: Account, source: JID, message: Message, then: Then) -> Stored | None:
        """Take a message from a local sender; ``source`` is the sending session's full JID.

        Returns the message with its place, not yet durable; None for one that was sent before.
        Raises a `DomainError` where the message is refused; then nothing was stored and ``then`` is not called.
        """
        to = message.to
        if to.local and to.domain in self._domains:
            recipient = self._recipient(message)
            if self._mailboxes.resent(message, then):
                return None
            return self._store(message, sender, recipient, _Accepted(self, sender, source, recipient, then))
        if to.domain in self._attached:
            self._attached[to.domain].submit(sender, source, message, then)
            return None
        if to.domain in self._domains:
            raise ServiceUnavailable
        if self._bars(sender.jid, to):
            raise NotAllowed("Guests exchange messages on this server only")
        if not self._federates:
            raise RemoteServerNotFound("This server exchanges no messages with other domains")
        if message.treatment & DURABLE:
            if self._mailboxes.resent(message, then):
                return None
            stored = self._store(message, sender, None, _Accepted(self, sender, source, None, then))
            self._outbox.enqueue(
                sender.jid.domain,
                message.to.domain,
                message.stanza_id,
                stored.id or None,
                message.payload,
                str(message.sender),
            )
            return stored
        self._outbox.pass_on(sender.jid.domain, message.to.domain, message.payload)
        return self._mailboxes.pass_by(message, _Accepted(self, sender, source, None, then))

    async def send(self, sender: Account, source: JID, message: Message) -> Stored:
        """`submit` for a caller that may wait. Raises `DomainError`."""
        if not self.knows(message.to):
            await self.prepare(message.to)
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def then(stored: Stored | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if stored is None:
                answer.set_exception(not_stored(error))
            else:
                answer.set_result(stored)

        self.submit(sender, source, message, then)
        return await answer

    def receive(self, message: Message, then: Then) -> None:
        """Take a message that a peer's proven origin sent to a local account.

        Raises a `DomainError` where it is refused; then nothing was stored and ``then`` is not called.
        """
        to = message.to
        if to.domain in self._attached and not (to.local and to.domain in self._domains):
            self._attached[to.domain].submit(None, message.sender, message, then)
            return
        if self._bars(to, message.sender):
            raise ServiceUnavailable
        recipient = self._recipient(message)
        self._store(message, None, recipient, _Accepted(self, None, message.sender, recipient, then))

    def _recipient(self, message: Message) -> Account:
        account = self._accounts.peek(message.to.bare)
        if isinstance(account, Unknown):
            raise ResourceConstraint("Too many accounts are being looked up, send it again")
        if account is None or account.state is _DELETED:
            raise ServiceUnavailable  # RFC 6121 s8.5.1
        if message.kind == _GROUPCHAT and message.to.is_bare:
            raise ServiceUnavailable  # RFC 6121 s8.5.2.1.1
        return account

    def _store(
        self, message: Message, sender: Account | None, recipient: Account | None, accepted: "_Accepted"
    ) -> Stored:
        if message.treatment & STORED:
            return self._mailboxes.append(message, sender, recipient, accepted)
        return self._mailboxes.pass_by(message, accepted)

    def accepted(self, stored: Stored, sender: Account | None, source: JID, recipient: Account | None) -> None:
        """The message is durable: give it to the sessions of both sides."""
        for observer in self.on_stored:
            observer(stored, sender, recipient)
        if recipient is not None:
            self._delivery.received(stored, recipient)
        if sender is not None and (recipient is None or recipient.id != sender.id):
            self._delivery.sent(stored, sender, source)


class _Accepted:
    """What happens after the commit, without a closure per step."""

    __slots__ = ("_messaging", "_recipient", "_sender", "_source", "_then")

    def __init__(
        self, messaging: Messaging, sender: Account | None, source: JID, recipient: Account | None, then: Then
    ) -> None:
        self._messaging = messaging
        self._sender = sender
        self._source = source
        self._recipient = recipient
        self._then = then

    def __call__(self, stored: Stored | None, error: BaseException | None) -> None:
        if stored is None:
            self._then(None, error)
            return
        self._then(stored, None)
        self._messaging.accepted(stored, self._sender, self._source, self._recipient)


def not_stored(error: BaseException | None) -> DomainError:
    """What to tell a sender whose message could not be written."""
    if isinstance(error, DomainError):
        return error
    if error is not None and is_full(error):
        return StorageFull("The server has no room for messages; nothing was lost, send it again later")
    return ResourceConstraint("The server cannot store messages now; nothing was lost, send it again later")
