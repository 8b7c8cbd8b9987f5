"""The message pipeline, in one visible order: resolve, authorise, limit, store, deliver.

Where one of the two accounts chose something for its privacy, a message is judged first, and if the two sides are to keep
it differently each of them gets a row of its own (`_store_apart`).

`Messaging.submit` is what a local sender's face calls, `Messaging.receive` what federation calls. Both are plain calls
up to the group commit; ``then`` follows when the message is durable, and only then may anybody be told so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Final, NamedTuple

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
from homeserver.domain.privacy import Strangers
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts, Unknown
from homeserver.services.delivery import Delivery
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.outbox import Outbox
from homeserver.services.privacy import Privacy, blocked_error
from homeserver.services.router import Router
from homeserver.storage.faults import is_full

Then = Callable[[Stored | None, BaseException | None], None]
"""Told once: the stored message, or why it was not stored."""
Observer = Callable[[Stored, Account | None, Account | None], None]
"""Told of every message when it is durable (or passed by, with the id 0): its local sender and recipient, where local."""

STORED: Final = ARCHIVE | KEEP
_GROUPCHAT: Final = Kind.GROUPCHAT
_TALK: Final = (Kind.CHAT, Kind.NORMAL, Kind.HEADLINE)
_END: Final = b"</message>"
_MARK: Final = f"<stranger xmlns='{ns.PARLEY_STRANGER}'/></message>".encode()
_DELETED: Final = AccountState.DELETED


class Sides(NamedTuple):
    """How the two owners of a message take it: whether each archives it, and whether it is shown as a stranger's."""

    sender: bool = True
    recipient: bool = True
    marked: bool = False


_AS_USUAL: Final = Sides()


class Messaging:
    """Takes messages from local senders and from peers, and answers for them.

    ``on_stored`` is called for each after its commit, before its sessions are given it. ``full`` holds the numbers of
    accounts for which so much waits that no more is taken. ``copied`` loads what is needed for messages that go to many.
    """

    def __init__(
        self,
        router: Router,
        accounts: Accounts,
        mailboxes: Mailboxes,
        delivery: Delivery,
        outbox: Outbox,
        privacy: Privacy,
    ) -> None:
        self._domains = router.domains
        self._federates = router.federates
        self._accounts = accounts
        self._mailboxes = mailboxes
        self._delivery = delivery
        self._outbox = outbox
        self._attached = router.attached
        self._privacy = privacy
        self.full: Collection[int] = ()
        self._bars = router.bars
        self.on_stored: list[Observer] = []
        self.copied: Callable[[Account, JID, Message], Awaitable[None]] | None = None

    def knows(self, to: JID, source: JID, sender: Account | None = None) -> bool:
        """Whether a message of ``source`` to ``to`` needs no look-up first; otherwise await `prepare`. ``sender`` is the
        account of a local source."""
        recipient = None
        if to.domain in self._domains:
            found = self._accounts.peek(to.bare)
            if isinstance(found, Unknown) or (found is None and not to.local):
                return False
            recipient = found
        privacy = self._privacy
        if not privacy.is_used or not privacy.watches(sender, recipient):
            return True
        return privacy.is_ready(sender, source, recipient)

    async def prepare(self, to: JID, source: JID, sender: Account | None = None) -> None:
        """Load what `submit` and `receive` must know about both sides."""
        recipient = await self._accounts.find(to.bare) if to.domain in self._domains else None
        await self._privacy.prepare(sender, source, recipient)

    async def prepare_copies(self, sender: Account, source: JID, message: Message) -> None:
        """Load the same for all who get a copy of a message to the address of a domain."""
        if self.copied is not None and not message.to.local:
            await self.copied(sender, source, message)

    def submit(self, sender: Account, source: JID, message: Message, then: Then) -> Stored | None:
        """Take a message from a local sender; ``source`` is the sending session's full JID.

        Returns the message with its place, not yet durable; None for one that was sent before.
        Raises a `DomainError` where the message is refused; then nothing was stored and ``then`` is not called.
        """
        to = message.to
        sides = None
        if to.local and to.domain in self._domains:
            recipient = self._recipient(message)
            if self._privacy.is_used and self._privacy.watches(sender, recipient):
                sides = self._judge(sender, source, message, recipient)
            if self._mailboxes.resent(message, then):
                return None
            if sides is not None:
                return self._store_apart(sides, message, sender, source, recipient, then)
            return self._store(message, sender, recipient, _Accepted(self, sender, source, recipient, then))
        if self._privacy.is_used and self._privacy.watches(sender, None):
            sides = self._judge(sender, source, message, None)
        if to.domain in self._attached:
            # Of what goes to many, each copy is judged by itself.
            keeps = sides is None or sides.sender or to.domain in self._domains
            return self._attached[to.domain].submit(sender, source, message if keeps else _unarchived(message), then)
        if to.domain in self._domains:
            raise ServiceUnavailable
        if self._bars(sender.jid, to):
            raise NotAllowed("Guests exchange messages on this server only")
        if not self._federates:
            raise RemoteServerNotFound("This server exchanges no messages with other domains")
        return self.forward(sender, source, message, sender.jid.domain, then, keeps=sides is None or sides.sender)

    def relay(self, message: Message, then: Then, origin: str) -> None:
        """Pass a message of a component on to another server, in the name of the domain ``origin``.

        Raises `RemoteServerNotFound` where there is no federation.
        """
        if not self._federates:
            raise RemoteServerNotFound("This server exchanges no messages with other domains")
        self.forward(None, message.sender, message, origin, then)

    def forward(
        self, sender: Account | None, source: JID, message: Message, origin: str, then: Then, *, keeps: bool = True
    ) -> Stored | None:
        """Queue a message for another server or a component, in the lane from ``origin``; a local sender's archive has it
        too, where that ``keeps`` it."""
        outbox, domain = self._outbox, message.to.domain
        if not message.treatment & DURABLE:
            outbox.pass_on(origin, domain, message.payload)
            return self._mailboxes.pass_by(message, then if sender is None else self._sent(sender, source, then))
        if sender is not None and self._mailboxes.resent(message, then):
            return None
        if sender is not None and keeps:
            stored = self._store(message, sender, None, self._sent(sender, source, then))
            outbox.enqueue(origin, domain, message.stanza_id, stored.id or None, message.payload, str(message.sender))
            return stored
        outbox.enqueue(origin, domain, message.stanza_id, None, message.payload, str(message.sender))
        if sender is None:
            return self._mailboxes.pass_by(message, then)
        return self._mailboxes.pass_by(_unarchived(message), self._sent(sender, source, then), sent=message)

    def _sent(self, sender: Account, source: JID, then: Then) -> "_Accepted":
        return _Accepted(self, sender, source, None, then)

    async def send(self, sender: Account, source: JID, message: Message) -> Stored:
        """`submit` for a caller that may wait. Raises `DomainError`."""
        if not self.knows(message.to, source, sender):
            await self.prepare(message.to, source, sender)
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
        accepted = _Accepted(self, None, message.sender, recipient, then)
        if self._privacy.is_used and self._privacy.watches(None, recipient):
            sides = self._judge(None, message.sender, message, recipient)
            if sides is not None:
                message = _marked(message) if sides.marked else message
                stored = self._store(message if sides.recipient else _unarchived(message), None, recipient, accepted)
                _hide(stored, recipient, sides.recipient)
                return
        self._store(message, None, recipient, accepted)

    def announce(self, recipient: Account, message: Message, then: Then) -> Stored:
        """Take a message that this server itself sends to one of its accounts; nobody's choice of senders keeps it out.

        Returns it with its place, not yet durable. Raises `ResourceConstraint` where too much waits for the account.
        """
        if recipient.id in self.full and message.treatment & KEEP:
            raise ResourceConstraint("Too much waits for this account")
        return self._store(message, None, recipient, _Accepted(self, None, message.sender, recipient, then))

    def _recipient(self, message: Message) -> Account:
        account = self._accounts.peek(message.to.bare)
        if isinstance(account, Unknown):
            raise ResourceConstraint("Too many accounts are being looked up, send it again")
        if account is None or account.state is _DELETED:
            raise ServiceUnavailable  # RFC 6121 s8.5.1
        if message.kind == _GROUPCHAT and message.to.is_bare:
            raise ServiceUnavailable  # RFC 6121 s8.5.2.1.1
        if self.full and account.id in self.full and message.treatment & KEEP:
            raise ResourceConstraint("Too much waits for this account")
        return account

    def _judge(self, sender: Account | None, source: JID, message: Message, recipient: Account | None) -> Sides | None:
        """How the two sides take a message; None for as usual.

        Raises `Blocked` where the sender blocks the recipient, `ServiceUnavailable`, which an account that does not exist
        gets as well, where the recipient does not take it (XEP-0191 s3.3).
        """
        privacy, to = self._privacy, message.to
        mine = None if sender is None else privacy.facts(sender)
        theirs = None if recipient is None else privacy.facts(recipient)
        if mine is not None and mine.blocks(to):
            raise blocked_error()
        if recipient is not None and theirs is not None and theirs.blocks(source):
            raise ServiceUnavailable
        if sender is not None and mine is not None:
            privacy.wrote(sender, to)
        marked = False
        if recipient is not None and message.kind in _TALK and privacy.is_stranger(recipient, theirs, source):
            if theirs is not None and theirs.strangers is Strangers.REFUSE:
                raise ServiceUnavailable
            marked = True
        sides = Sides(mine is None or mine.keeps(to), theirs is None or theirs.keeps(source), marked)
        return None if sides == _AS_USUAL else sides

    def _store_apart(
        self, sides: Sides, message: Message, sender: Account, source: JID, recipient: Account, then: Then
    ) -> Stored:
        """Store a message between two local accounts that keep it differently: a row for each side, in one commit.

        The recipient's comes first, so that the sender, who is told of the second, is told when both are durable.
        """
        given = _marked(message) if sides.marked else message
        if not sides.recipient:
            given = _unarchived(given)
        own = sides.sender and sender.id != recipient.id and message.treatment & ARCHIVE
        accepted = _AcceptedApart(self, sender, source, recipient, then)
        if own:
            received = self._store(given, None, recipient, accepted.given)
            _hide(received, recipient, sides.recipient)
            kept = replace(message, treatment=message.treatment & ~KEEP)
            return self._mailboxes.append(kept, sender, None, accepted)
        if not given.treatment & STORED:
            return self._mailboxes.pass_by(given, accepted.alone)
        received = self._mailboxes.append(given, None, recipient, accepted.alone, sent=message)
        _hide(received, recipient, sides.recipient)
        return received

    def _store(self, message: Message, sender: Account | None, recipient: Account | None, accepted: Then) -> Stored:
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

    def accepted_apart(
        self, received: Stored, kept: Stored | None, sender: Account, source: JID, recipient: Account
    ) -> None:
        """As `accepted`, for a message of which each side has its own; ``kept`` is the sender's, if it has one."""
        for observer in self.on_stored:
            observer(received, None, recipient)
            if kept is not None:
                observer(kept, sender, None)
        self._delivery.received(received, recipient)
        if recipient.id != sender.id:
            copy = kept if kept is not None else Stored(0, received.at, _unarchived(received.message))
            self._delivery.sent(copy, sender, source)


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


class _AcceptedApart:
    """What happens after the commit of a message of which each side has its own row."""

    __slots__ = ("_messaging", "_received", "_recipient", "_sender", "_source", "_then")

    def __init__(self, messaging: Messaging, sender: Account, source: JID, recipient: Account, then: Then) -> None:
        self._messaging = messaging
        self._sender = sender
        self._source = source
        self._recipient = recipient
        self._then = then
        self._received: Stored | None = None

    def given(self, stored: Stored | None, _error: BaseException | None) -> None:
        """The recipient's row; a failure is told with the sender's, which is in the same commit."""
        self._received = stored

    def __call__(self, stored: Stored | None, error: BaseException | None) -> None:
        """The sender's row."""
        self._end(self._received, stored, error)

    def alone(self, stored: Stored | None, error: BaseException | None) -> None:
        """The only row."""
        self._end(stored, None, error)

    def _end(self, received: Stored | None, kept: Stored | None, error: BaseException | None) -> None:
        if received is None or error is not None:
            self._then(None, error)
            return
        self._then(kept if kept is not None else received, None)
        self._messaging.accepted_apart(received, kept, self._sender, self._source, self._recipient)


def _unarchived(message: Message) -> Message:
    return replace(message, treatment=message.treatment & ~ARCHIVE)


def _marked(message: Message) -> Message:
    """The message with the mark that its recipient does not know its sender."""
    payload = message.payload
    if not payload.endswith(_END):
        return message
    return replace(message, payload=payload[: -len(_END)] + _MARK)


def _hide(stored: Stored, owner: Account, keeps: bool) -> None:
    """Give the owner's sessions no id of an archive that does not hold the message (XEP-0359 s5)."""
    if not keeps:
        stored.rendered[owner.jid.bare] = stored.message.payload


def not_stored(error: BaseException | None) -> DomainError:
    """What to tell a sender whose message could not be written."""
    if isinstance(error, DomainError):
        return error
    if error is not None and is_full(error):
        return StorageFull("The server has no room for messages; nothing was lost, send it again later")
    return ResourceConstraint("The server cannot store messages now; nothing was lost, send it again later")
