"""Messages: send, read one, page a conversation, everything since a position."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from client_api.http.endpoint import Answer, address_of, endpoint
from client_api.http.events import event_of
from homeserver.domain.accounts import Account
from homeserver.domain.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotAcceptable,
    NotFound,
    RemoteServerNotFound,
    ServiceUnavailable,
    TooLarge,
)
from homeserver.domain.messages import Entry, Message, PageRequest
from homeserver.protocol import events_json
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import InvalidEvent, MessageEvent, Reply
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import MESSAGE
from homeserver.protocol.xml import Element, element
from homeserver.services.accounts import Accounts
from homeserver.services.client_messages import ClientMessages, Sent
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.retention import Pages
from homeserver.services.tokens import Caller
from homeserver.xmpp.core_message import Reader, start_tag

Id = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Limit = Annotated[int, Meta(ge=1, le=1000, description="at most as many as the server allows")]
Offset = Annotated[int, Meta(ge=0, le=1000)]
Recipient = Annotated[str, Meta(min_length=1, max_length=3071)]
When = Annotated[str, Meta(max_length=40, description="RFC 3339, or seconds since the epoch")]
ClientId = Annotated[str, Meta(min_length=1, max_length=255)]


class NewMessage(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A message to send. ``to`` is an address, or the ``user_id`` of an account here."""

    to: Recipient | Id
    client_id: ClientId
    text: str | None = None
    kind: Literal["chat", "normal"] = "chat"
    thread: Annotated[str, Meta(max_length=1023)] | None = None
    reply_to: Reply | None = None
    xml: Annotated[list[str], Meta(max_length=50)] = []


class SentMessage(Struct):
    """A stored message. ``message_id`` is null where it is of a sort that is passed on and not stored."""

    message_id: Id | None
    client_id: str
    conversation: str
    sent_at: str


class MessagesQuery(Struct):
    """Without bounds the newest page. ``before`` and ``after`` are message ids, not included. ``timestamp``: up to that
    time, or, with ``delta``, from it on. ``offset`` skips messages."""

    limit: Limit | None = None
    before: Id | None = None
    after: Id | None = None
    offset: Offset = 0
    delta: bool = False
    timestamp: When | None = None


class MessageList(Struct):
    """Messages, oldest first. ``complete`` when none is left in the direction of paging."""

    messages: list[MessageEvent]
    complete: bool
    first: Id | None
    last: Id | None


class SyncQuery(Struct):
    """Everything after ``cursor``."""

    cursor: Id = 0
    limit: Limit | None = None


class PositionedEvent(Struct):
    """An event and its position."""

    position: Id
    event: MessageEvent


class SyncPage(Struct):
    """Events in the order of their positions; ``cursor`` is what to ask with next."""

    events: list[PositionedEvent]
    cursor: Id
    complete: bool


SEND_ERRORS: Final = (
    Conflict,
    Forbidden,
    NotAcceptable,
    NotFound,
    RemoteServerNotFound,
    ServiceUnavailable,
    TooLarge,
)


class Messages:
    """Sending and reading for accounts with an access token."""

    def __init__(
        self,
        accounts: Accounts,
        mailboxes: Mailboxes,
        sender: ClientMessages,
        reader: Reader,
        pages: Pages,
        max_bytes: int,
    ) -> None:
        self._accounts = accounts
        self._mailboxes = mailboxes
        self._sender = sender
        self._reader = reader
        self._pages = pages
        self._max_bytes = max_bytes

    @endpoint(
        "POST",
        "/v1/messages",
        body=NewMessage,
        returns=SentMessage,
        status=201,
        also={200: SentMessage},
        errors=SEND_ERRORS,
    )
    async def send(self, caller: Caller, body: NewMessage) -> SentMessage | Answer:
        """Send a message; 200 when it had been sent under this client_id before."""
        return await self.deliver(caller, body)

    @endpoint("GET", "/v1/messages/{message_id}", returns=MessageEvent, errors=(NotFound,))
    async def show(self, caller: Caller, message_id: str) -> MessageEvent:
        """One message of the account."""
        return event_of(await self.entry(caller.account, message_id))

    @endpoint("GET", "/v1/conversations/{peer}/messages", query=MessagesQuery, returns=MessageList, errors=(NotFound,))
    async def page(self, caller: Caller, peer: str, query: MessagesQuery) -> MessageList:
        """Messages of one conversation; peer is a bare address or the user_id of an account here."""
        other = await self.conversation(peer)
        at = moment(query.timestamp)
        forwards = query.after is not None or (at is not None and query.delta)
        request = PageRequest(
            limit=self._pages.size(query.limit) + query.offset,
            peer=other.bare,
            after=query.after,
            before=query.before,
            start=at if query.delta else None,
            end=None if query.delta else at,
            backwards=not forwards,
        )
        found = await self._mailboxes.page(caller.account, request)
        entries = found.entries[query.offset :] if forwards else found.entries[: len(found.entries) - query.offset]
        events = [event_of(entry) for entry in entries]
        return MessageList(events, found.complete, events[0].id if events else None, events[-1].id if events else None)

    @endpoint("GET", "/v1/sync", query=SyncQuery, returns=SyncPage)
    async def sync(self, caller: Caller, query: SyncQuery) -> SyncPage:
        """Everything of all conversations after a position."""
        limit = self._pages.size(query.limit)
        found = await self._mailboxes.page(caller.account, PageRequest(limit=limit, after=query.cursor))
        events = [PositionedEvent(entry.id, event_of(entry)) for entry in found.entries]
        return SyncPage(events, events[-1].position if events else query.cursor, found.complete)

    async def begin(
        self, sender: Account, source: JID, body: NewMessage, context: bytes = b""
    ) -> tuple[JID, asyncio.Future[Sent]]:
        """Put what a client asked for on its way, from the session ``source``; ``context`` is more that it asked for.

        Returns the recipient and a future that is done when the message is durable. Raises the errors of `send`.
        """
        to = await self.resolve(body.to)
        message = self._message(source, to, body)
        asked = (str(to), body.kind, body.text, body.thread, body.reply_to, body.xml)
        digest = hashlib.sha256(msgspec.msgpack.encode(asked) + context).digest()
        return to, await self._sender.begin(sender, source, message, digest)

    async def entry(self, account: Account, message_id: str) -> Entry:
        """The message of the account that a path names. Raises `BadRequest`, `NotFound`."""
        if not (message_id.isascii() and message_id.isdigit() and len(message_id) <= 16):
            raise BadRequest("a message id is a number")
        found = await self._mailboxes.find(account, int(message_id))
        if found is None:
            raise NotFound("no such message")
        return found

    async def deliver(self, caller: Caller, body: NewMessage) -> SentMessage | Answer:
        """What `send` does."""
        to, durable = await self.begin(caller.account, caller.account.jid.with_resource(caller.device), body)
        sent = await asyncio.shield(durable)
        made = SentMessage(sent.id or None, body.client_id, to.bare, events_json.timestamp(sent.at))
        return Answer(made, 200) if sent.repeated else made

    async def conversation(self, peer: str) -> JID:
        """The other side that a path names: a bare address or the user_id of an account here."""
        return await self.resolve(int(peer) if peer.isascii() and peer.isdigit() and len(peer) <= 16 else peer)

    async def resolve(self, to: str | int) -> JID:
        """The address a client means. Raises `JidMalformed`, `NotFound`."""
        if isinstance(to, str):
            found = address_of(to)
            if not found.local and "@" not in to and found.domain not in self._accounts.domains and "." not in to:
                raise NotFound("no such recipient")
            return found
        account = await self._accounts.by_id(to)
        if account is None:
            raise NotFound("no such recipient")
        return account.jid

    def _message(self, source: JID, to: JID, body: NewMessage) -> Message:
        try:
            stanza = _stanza(source, to, body)
        except InvalidEvent as error:
            raise BadRequest(str(error)) from error
        made = self._reader.read(stanza, None, source, to, start_tag(source), True)
        if len(made.payload) > self._max_bytes:
            raise TooLarge(f"the message has more than {self._max_bytes} bytes")
        return made


def _stanza(source: JID, to: JID, body: NewMessage) -> Element:
    """The stanza an XMPP client would have sent: id and origin-id are the client_id."""
    if body.text is None and not body.xml:
        raise BadRequest("a message has text or xml")
    attributes = {"from": str(source), "to": str(to), "id": body.client_id, "type": body.kind}
    message = Element(MESSAGE, attributes)
    if body.text is not None:
        message.append(element(ns.CLIENT, "body", None, body.text))
    if body.thread is not None:
        message.append(element(ns.CLIENT, "thread", None, body.thread))
    message.append(element(ns.STANZA_ID, "origin-id", {"id": body.client_id}))
    if body.reply_to is not None:
        more = {} if body.reply_to.to is None else {"to": str(address_of(body.reply_to.to))}
        message.append(element(ns.REPLY, "reply", {"id": body.reply_to.id, **more}))
    for text in body.xml:
        part = events_json.fragment(text)
        if part.tag in (f"{{{ns.CLIENT}}}error", f"{{{ns.STANZA_ID}}}origin-id"):
            raise BadRequest("an xml item is not for clients to send")
        message.append(part)
    events_json.check(message)
    return message


def moment(text: str | None) -> int | None:
    """Microseconds of a time in a query. Raises `BadRequest`."""
    if text is None:
        return None
    try:
        if text.replace(".", "", 1).isdecimal() and text.isascii():
            found = int(float(text) * 1_000_000)
        else:
            # In a query string + is a space; a time zone needs it.
            parsed = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            found = int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise BadRequest("a time is RFC 3339 text, or seconds since the epoch") from error
    if not 0 <= found < 2**53:
        raise BadRequest("the time is out of range")
    return found
