"""Conversations: the list with what is unread, and reading."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

from msgspec import Meta, Struct

from client_api.http.endpoint import endpoint
from client_api.http.events import event_of
from client_api.http.messages import SEND_ERRORS, Id, Limit, Messages, NewMessage, Offset, When, moment
from homeserver.domain.accounts import Account
from homeserver.domain.errors import NotFound
from homeserver.domain.messages import Direction, Entry, PageRequest
from homeserver.protocol import events_json
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import MessageEvent, stanza_element
from homeserver.protocol.xml import child, element, serialise
from homeserver.services.inbox import Inbox
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.retention import Pages
from homeserver.services.tokens import Caller

_LOOKED_BACK: Final = 50


class ConversationsQuery(Struct):
    """Newest first. ``before`` is the ``next`` of the page before. ``timestamp``: as it was at that time, or, with
    ``delta``, only what changed since."""

    limit: Limit | None = None
    before: Id | None = None
    offset: Offset = 0
    delta: bool = False
    timestamp: When | None = None


class ConversationInfo(Struct):
    """A conversation, by the bare address of the other side. ``last_message`` is the newest that says something to be
    read, ``unread`` the number of received ones behind ``read_upto``; 999 are counted."""

    conversation: str
    updated_at: str
    last_message: MessageEvent
    unread: int = 0
    read_upto: Id | None = None


class ConversationList(Struct):
    """A page of conversations; ``next`` is null on the last one."""

    conversations: list[ConversationInfo]
    next: Id | None


class Reading(Struct, forbid_unknown_fields=True):
    """Everything up to ``message_id`` was read. With ``tell`` the sender learns it, if it asked to (XEP-0333)."""

    message_id: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    tell: bool = True


class ReadPosition(Struct):
    """Up to where a conversation is read, on all devices of the account."""

    conversation: str
    read_upto: Id


class Conversations:
    """The account's conversations."""

    def __init__(self, messages: Messages, inbox: Inbox, mailboxes: Mailboxes, pages: Pages) -> None:
        self._messages = messages
        self._inbox = inbox
        self._mailboxes = mailboxes
        self._pages = pages

    @endpoint("GET", "/v1/conversations", query=ConversationsQuery, returns=ConversationList)
    async def listing(self, caller: Caller, query: ConversationsQuery) -> ConversationList:
        """The account's conversations."""
        at = moment(query.timestamp)
        limit = self._pages.size(query.limit)
        wanted = limit + query.offset + 1
        before = query.before
        if at is not None and not query.delta:
            before = at + 1 if before is None else min(before, at + 1)
        found = await self._inbox.conversations(caller.account, before, wanted)
        if at is not None and query.delta:
            found = [conversation for conversation in found if conversation.last.at >= at]
        shown = found[query.offset : query.offset + limit]
        more = len(found) > query.offset + limit
        return ConversationList(
            [
                ConversationInfo(
                    made.peer,
                    events_json.timestamp(made.last.at),
                    event_of(made.shown or made.last),
                    made.unread,
                    made.read or None,
                )
                for made in shown
            ],
            shown[-1].last.id if shown and more else None,
        )

    @endpoint("POST", "/v1/conversations/{peer}/read", body=Reading, returns=ReadPosition, errors=(*SEND_ERRORS,))
    async def read(self, caller: Caller, peer: str, body: Reading) -> ReadPosition:
        """Note up to where a conversation is read; it never goes back."""
        other = (await self._messages.conversation(peer)).bare
        found = await self._mailboxes.find(caller.account, body.message_id)
        if found is None or found.peer != other:
            raise NotFound("no such message in this conversation")
        moved = await self._inbox.read(caller.account, other, body.message_id)
        if moved and body.tell:
            marked = await self._markable(caller.account, found)
            if marked is not None and marked.stanza_id:
                marker = serialise(element(ns.CHAT_MARKERS, "displayed", {"id": marked.stanza_id}), "")
                await self._messages.deliver(caller, NewMessage(other, secrets.token_hex(16), xml=[marker]))
        return ReadPosition(other, await self._inbox.position(caller.account, other))

    async def _markable(self, account: Account, upto: Entry) -> Entry | None:
        """The newest received message up to this one whose sender wants to know (XEP-0333 s4.1)."""
        request = PageRequest(limit=_LOOKED_BACK, peer=upto.peer, before=upto.id + 1, backwards=True)
        page = await self._mailboxes.page(account, request)
        for entry in reversed(page.entries):
            if (
                entry.direction is Direction.INCOMING
                and child(stanza_element(entry.payload), ns.CHAT_MARKERS, "markable") is not None
            ):
                return entry
        return None
