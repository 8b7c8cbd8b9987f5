"""One text for several recipients, each of whom gets a message of its own."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from client_api.http.endpoint import Answer, Call, endpoint
from client_api.http.errors import Problem, problem_of
from client_api.http.messages import ClientId, Id, Messages, NewMessage, Recipient
from homeserver.domain.errors import Conflict, DomainError, NotAcceptable, TooLarge
from homeserver.protocol import events_json
from homeserver.protocol.jid import JID
from homeserver.services.broadcasts import Broadcasts
from homeserver.services.client_messages import Sent
from homeserver.services.tokens import Caller


class NewBroadcast(Struct, forbid_unknown_fields=True):
    """A text for several recipients: addresses, or the ``user_id`` of accounts here. They do not learn of each other."""

    to: Annotated[list[Recipient | Id], Meta(min_length=1, max_length=1000)]
    client_id: ClientId
    text: str
    kind: Literal["chat", "normal"] = "chat"


class Sending(Struct):
    """What became of it for one recipient, named as it was asked for: a stored message, or why there is none.

    ``client_id`` is that of the recipient's own message."""

    to: Recipient | Id
    client_id: str
    conversation: str | None = None
    message_id: Id | None = None
    sent_at: str | None = None
    problem: Problem | None = None


class BroadcastSent(Struct):
    """One result for each recipient, in their order."""

    client_id: str
    results: list[Sending]


class BroadcastEndpoints:
    """Messages to many."""

    def __init__(self, messages: Messages, broadcasts: Broadcasts) -> None:
        self._messages = messages
        self._broadcasts = broadcasts

    @endpoint(
        "POST",
        "/v1/broadcasts",
        body=NewBroadcast,
        returns=BroadcastSent,
        status=201,
        also={200: BroadcastSent},
        errors=(Conflict, NotAcceptable, TooLarge),
    )
    async def send(self, caller: Caller, call: Call, body: NewBroadcast) -> BroadcastSent | Answer:
        """Send one text to several recipients; 200 when all of it had been sent under this client_id before."""
        self._broadcasts.bound(len(body.to))
        self._broadcasts.take(caller.account, len(body.to), call.address)
        context = hashlib.sha256(msgspec.msgpack.encode(body)).digest()
        # Each message needs an id of its own; made of the client's, so that the same request gives the same ids.
        stem = hashlib.sha256(body.client_id.encode()).hexdigest()[:32]
        flying: list[tuple[Sending, JID, asyncio.Future[Sent]]] = []
        results: list[Sending] = []
        for place, to in enumerate(body.to):
            one = Sending(to, f"{stem}-{place}")
            results.append(one)
            wanted = NewMessage(to, one.client_id, body.text, body.kind)
            try:
                found, durable = await self._messages.begin(
                    caller.account, caller.account.jid.with_resource(caller.device), wanted, context
                )
            except (Conflict, TooLarge):
                raise
            except DomainError as error:
                one.problem = problem_of(error)
            else:
                flying.append((one, found, durable))
        is_repeated = bool(flying)
        for one, found, durable in flying:
            one.conversation = found.bare
            try:
                sent = await asyncio.shield(durable)
            except DomainError as error:
                one.problem = problem_of(error)
                is_repeated = False
            else:
                one.message_id, one.sent_at = sent.id or None, events_json.timestamp(sent.at)
                is_repeated = is_repeated and sent.repeated
        made = BroadcastSent(body.client_id, results)
        return Answer(made, 200) if is_repeated else made
