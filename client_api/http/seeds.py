"""The paths of the design documents, as aliases of the ``/v1`` endpoints: their bodies, their answers, integer ids."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

from msgspec import Meta, Struct

from client_api.http.auth import Auth, Login, Password, Username
from client_api.http.conversations import ConversationInfo, Conversations, ConversationsQuery
from client_api.http.endpoint import Call, endpoint
from client_api.http.files import UPLOAD_ERRORS, FileEndpoints, FileQuery
from client_api.http.messages import (
    SEND_ERRORS,
    ClientId,
    Id,
    Messages,
    MessagesQuery,
    NewMessage,
    Recipient,
)
from homeserver.domain.errors import (
    Conflict,
    Forbidden,
    NotAcceptable,
    NotAuthorized,
    NotFound,
    RegistrationClosed,
    ResourceConstraint,
)
from homeserver.protocol.events_json import MessageEvent
from homeserver.services.tokens import Caller


class Credentials(Struct, forbid_unknown_fields=True):
    """Name and password."""

    username: Username
    password: Password


class Registered(Struct):
    """The new account."""

    success: bool
    user_id: Id


class LoggedIn(Struct):
    """``token`` is the JSON Web Token for ``Authorization: Bearer``."""

    success: bool
    token: str
    user_id: Id


class PlainMessage(Struct, forbid_unknown_fields=True):
    """A text for somebody: ``recipient_id`` is a user_id or an address."""

    message: Annotated[str, Meta(min_length=1)]
    recipient_id: Id | Recipient
    client_id: ClientId | None = None


class MessageSent(Struct):
    """The stored message."""

    success: bool
    message_id: Id


class FetchMessagesQuery(MessagesQuery, kw_only=True):
    """As MessagesQuery, of one conversation."""

    conversation_id: Recipient


class FetchedConversations(Struct):
    """Conversations, newest first."""

    success: bool
    conversations: list[ConversationInfo]


class FetchedMessages(Struct):
    """Messages, oldest first."""

    success: bool
    messages: list[MessageEvent]


class FileUploaded(Struct):
    """The stored file; whoever has ``url`` can read it."""

    success: bool
    file_id: str
    url: str


class Seeds:
    """Each handler calls the endpoint it stands for."""

    def __init__(self, auth: Auth, messages: Messages, conversations: Conversations, files: FileEndpoints) -> None:
        self._auth = auth
        self._messages = messages
        self._conversations = conversations
        self._files = files

    @endpoint(
        "POST",
        "/register",
        body=Credentials,
        returns=Registered,
        auth=False,
        errors=(RegistrationClosed, Forbidden, NotAcceptable, NotFound, Conflict),
    )
    async def register(self, call: Call, body: Credentials) -> Registered:
        """Make an account; as POST /v1/accounts."""
        made = await self._auth.register(call.address, body.username, None, body.password, None)
        return Registered(True, made.id)

    @endpoint("POST", "/login", body=Credentials, returns=LoggedIn, auth=False, errors=(NotAuthorized,))
    async def login(self, call: Call, body: Credentials) -> LoggedIn:
        """Log in; as POST /v1/sessions."""
        grant = await self._auth.login(call.address, Login(body.username, body.password))
        return LoggedIn(True, grant.access_token, grant.account.id)

    @endpoint("POST", "/send-message", body=PlainMessage, returns=MessageSent, errors=SEND_ERRORS)
    async def send_message(self, caller: Caller, body: PlainMessage) -> MessageSent:
        """Send a text; as POST /v1/messages. Without client_id every request is another message."""
        wanted = NewMessage(body.recipient_id, body.client_id or secrets.token_hex(16), body.message)
        source = caller.account.jid.with_resource(caller.device)
        _, durable = await self._messages.begin(caller.account, source, wanted)
        sent = await asyncio.shield(durable)
        if not sent.id:
            raise ResourceConstraint("the message was passed on and not stored")
        return MessageSent(True, sent.id)

    @endpoint("GET", "/fetch-conversations", query=ConversationsQuery, returns=FetchedConversations)
    async def fetch_conversations(self, caller: Caller, query: ConversationsQuery) -> FetchedConversations:
        """The account's conversations; as GET /v1/conversations."""
        found = await self._conversations.listing(caller, query)
        return FetchedConversations(True, found.conversations)

    @endpoint("GET", "/fetch-messages", query=FetchMessagesQuery, returns=FetchedMessages, errors=(NotFound,))
    async def fetch_messages(self, caller: Caller, query: FetchMessagesQuery) -> FetchedMessages:
        """Messages of one conversation; as GET /v1/conversations/{peer}/messages."""
        found = await self._messages.page(caller, query.conversation_id, query)
        return FetchedMessages(True, found.messages)

    @endpoint(
        "POST",
        "/upload-file",
        query=FileQuery,
        content=("multipart/form-data", "application/octet-stream"),
        returns=FileUploaded,
        status=201,
        errors=UPLOAD_ERRORS,
    )
    async def upload_file(self, caller: Caller, call: Call, query: FileQuery) -> FileUploaded:
        """Store a file; as POST /v1/files."""
        made = await self._files.store(caller, call.request, query.name)
        return FileUploaded(True, made.id, self._files.url(made))
