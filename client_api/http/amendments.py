"""What is done to a message afterwards: corrections, reactions, taking it back, deleting it."""

from __future__ import annotations

import secrets
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from client_api.http.endpoint import Answer, endpoint
from client_api.http.messages import SEND_ERRORS, ClientId, Messages, NewMessage, SentMessage
from homeserver.domain.errors import Forbidden, NotAcceptable, NotFound
from homeserver.domain.messages import Direction, Entry, Kind, Treatment
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import stanza_element
from homeserver.protocol.xml import Element, child, element, serialise
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.tokens import Caller

_RETRACTED_TEXT: Final = "This person attempted to retract a previous message, but it's unsupported by your client."
Emoji = Annotated[str, Meta(min_length=1, max_length=64)]


class Correction(Struct, forbid_unknown_fields=True):
    """The new text of a message of the account's own."""

    text: Annotated[str, Meta(min_length=1)]
    client_id: ClientId


class Reactions(Struct, forbid_unknown_fields=True):
    """All reactions of the account to a message; an empty list takes them back."""

    emojis: Annotated[list[Emoji], Meta(max_length=20)]
    client_id: ClientId | None = None


class Deletion(Struct, rename={"for_": "for"}):
    """``all``: take the message back, also from the other side (XEP-0424). ``me``: from the account's own archive only."""

    for_: Literal["all", "me"] = "me"


class Amendments:
    """Each but ``for=me`` is a message of its own, to the same conversation, with the id of the one it is about."""

    def __init__(self, messages: Messages, mailboxes: Mailboxes) -> None:
        self._messages = messages
        self._mailboxes = mailboxes

    @endpoint(
        "PATCH",
        "/v1/messages/{message_id}",
        body=Correction,
        returns=SentMessage,
        also={201: SentMessage},
        errors=SEND_ERRORS,
    )
    async def correct(self, caller: Caller, message_id: str, body: Correction) -> Answer:
        """Replace the text of an own message (XEP-0308); the first one stays in the archive."""
        entry = await self._own(caller, message_id)
        before = child(stanza_element(entry.payload), ns.CORRECTION, "replace")
        # XEP-0308 s3: also a second correction names the first message.
        named = _id_of(entry) if before is None else before.get("id", "")
        part = element(ns.CORRECTION, "replace", {"id": named})
        return await self._send(caller, entry, body.client_id, [part], body.text)

    @endpoint(
        "PUT",
        "/v1/messages/{message_id}/reactions",
        body=Reactions,
        returns=SentMessage,
        also={201: SentMessage},
        errors=SEND_ERRORS,
    )
    async def react(self, caller: Caller, message_id: str, body: Reactions) -> Answer:
        """Set the account's reactions to a message (XEP-0444)."""
        entry = await self._messages.entry(caller.account, message_id)
        emojis = [element(ns.REACTIONS, "reaction", None, emoji) for emoji in dict.fromkeys(body.emojis)]
        part = element(ns.REACTIONS, "reactions", {"id": _id_of(entry)}, *emojis)
        return await self._send(caller, entry, body.client_id or secrets.token_hex(16), [part], None)

    @endpoint(
        "DELETE",
        "/v1/messages/{message_id}",
        query=Deletion,
        status=204,
        also={200: SentMessage},
        errors=SEND_ERRORS,
    )
    async def delete(self, caller: Caller, message_id: str, query: Deletion) -> Answer | None:
        """Take a message back, or delete it from the own archive."""
        if query.for_ == "me":
            entry = await self._messages.entry(caller.account, message_id)
            if not await self._mailboxes.hide(caller.account, entry.id):
                raise NotFound("no such message")
            return None
        entry = await self._own(caller, message_id)
        if entry.treatment & Treatment.RETRACTED:
            return None
        fallback = element(ns.FALLBACK, "fallback", {"for": ns.RETRACTION})
        parts = [element(ns.RETRACTION, "retract", {"id": _id_of(entry)}), fallback, element(ns.HINTS, "store")]
        answer = await self._send(caller, entry, secrets.token_hex(16), parts, _RETRACTED_TEXT)
        return Answer(answer.value, 200)

    async def _own(self, caller: Caller, message_id: str) -> Entry:
        entry = await self._messages.entry(caller.account, message_id)
        if entry.direction is Direction.INCOMING:
            raise Forbidden("the message is not the account's own")
        return entry

    async def _send(
        self, caller: Caller, entry: Entry, client_id: str, parts: list[Element], text: str | None
    ) -> Answer:
        kind: Literal["chat", "normal"] = "chat" if entry.kind is Kind.CHAT else "normal"
        xml = [serialise(part, "") for part in parts]
        sent = await self._messages.deliver(caller, NewMessage(entry.peer, client_id, text, kind, xml=xml))
        return sent if isinstance(sent, Answer) else Answer(sent, 201)


def _id_of(entry: Entry) -> str:
    """The id by which both sides know a message of a conversation between two (XEP-0424 s5.1, XEP-0444 s4.2)."""
    if not entry.stanza_id:
        raise NotAcceptable("the message has no id of its sender's")
    return entry.stanza_id
