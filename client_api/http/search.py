"""Searching the account's messages."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from client_api.http.endpoint import endpoint
from client_api.http.events import event_of
from client_api.http.messages import Id, Limit, Messages
from homeserver.domain.errors import NotFound
from homeserver.domain.messages import PageRequest
from homeserver.domain.search import MAX_QUERY, parse
from homeserver.protocol.events_json import MessageEvent
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.retention import Pages
from homeserver.services.search import Search
from homeserver.services.tokens import Caller


class SearchQuery(Struct):
    """``q``: words and "phrases" that must all be in the text; a word that ends with * stands for its beginning.
    ``with``: one conversation only. ``cursor`` is the ``next`` of the page before."""

    q: Annotated[str, Meta(min_length=1, max_length=MAX_QUERY)]
    with_: Annotated[str, Meta(max_length=3071)] | None = field(default=None, name="with")
    limit: Limit | None = None
    cursor: Id | None = None


class Found(Struct):
    """Messages, newest first; ``next`` is null on the last page."""

    messages: list[MessageEvent]
    next: Id | None


class Searching:
    """Full-text search. Encrypted messages cannot be found."""

    def __init__(self, search: Search, messages: Messages, mailboxes: Mailboxes, pages: Pages) -> None:
        self._search = search
        self._messages = messages
        self._mailboxes = mailboxes
        self._pages = pages

    @endpoint("GET", "/v1/search", query=SearchQuery, returns=Found, errors=(NotFound,))
    async def find(self, caller: Caller, query: SearchQuery) -> Found:
        """Messages of the account that hold all these words."""
        words = parse(query.q)
        peer = None if query.with_ is None else (await self._messages.conversation(query.with_)).bare
        await self._search.catch_up()
        request = PageRequest(
            limit=self._pages.size(query.limit), peer=peer, before=query.cursor, backwards=True, words=words
        )
        page = await self._mailboxes.page(caller.account, request)
        events = [event_of(entry) for entry in reversed(page.entries)]
        return Found(events, None if page.complete or not events else events[-1].id)
