"""The frames of the JSON WebSocket."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from client_api.http.contacts import ContactInfo
from client_api.http.errors import Problem
from client_api.http.events import ChatState
from client_api.http.messages import ClientId, Id, NewMessage, Recipient
from homeserver.protocol.events_json import MessageEvent, Reply

Show = Literal["away", "chat", "dnd", "xa"]
Status = Annotated[str, Meta(max_length=1024)]


class AuthFrame(Struct, tag_field="type", tag="auth", forbid_unknown_fields=True):
    """First frame of a client that sent no Authorization header."""

    access_token: Annotated[str, Meta(max_length=2048)]
    cursor: Id | None = None
    presence: bool = True


class AckFrame(Struct, tag_field="type", tag="ack", forbid_unknown_fields=True):
    """Everything up to ``position`` is processed."""

    position: Id


class SendFrame(Struct, tag_field="type", tag="send", forbid_unknown_fields=True):
    """Send a message; as POST /v1/messages."""

    to: Recipient | Id
    client_id: ClientId
    text: str | None = None
    kind: Literal["chat", "normal"] = "chat"
    thread: Annotated[str, Meta(max_length=1023)] | None = None
    reply_to: Reply | None = None
    xml: Annotated[list[str], Meta(max_length=50)] = []
    receipt: bool = False

    def message(self) -> NewMessage:
        """The body POST /v1/messages would have."""
        return NewMessage(
            self.to, self.client_id, self.text, self.kind, self.thread, self.reply_to, self.xml, self.receipt
        )


class PresenceFrame(Struct, tag_field="type", tag="presence", forbid_unknown_fields=True):
    """Show this device to contacts, or not."""

    available: bool
    show: Show | None = None
    status: Status | None = None


class PingFrame(Struct, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """Answered by a pong with the same id."""

    id: Annotated[str, Meta(max_length=255)] | None = None


class TypingFrame(Struct, tag_field="type", tag="typing", forbid_unknown_fields=True):
    """Tell somebody whether the user is writing (XEP-0085)."""

    to: Recipient | Id
    state: ChatState = "composing"


class StateFrame(Struct, tag_field="type", tag="state", forbid_unknown_fields=True):
    """Whether anybody looks at this client (XEP-0352): while nobody does, presence waits and typing is left out."""

    active: bool


ClientFrame = AckFrame | SendFrame | PresenceFrame | PingFrame | TypingFrame | StateFrame


class ReadyFrame(Struct, tag_field="type", tag="ready"):
    """The client is logged in; what comes next are the messages after ``cursor``."""

    device_id: str
    jid: str
    cursor: Id


class MessageFrame(Struct, tag_field="type", tag="message"):
    """A message. Positions grow."""

    position: Id
    event: MessageEvent


class SyncedFrame(Struct, tag_field="type", tag="synced"):
    """Everything older was sent; from here on it is live."""

    position: Id


class EphemeralFrame(Struct, tag_field="type", tag="ephemeral"):
    """A message that is not stored."""

    event: MessageEvent


class ContactFrame(Struct, tag_field="type", tag="presence", omit_defaults=True, rename={"from_": "from"}):
    """Somebody's presence; ``last_seen`` is since when somebody has been away."""

    from_: str
    available: bool
    show: str | None = None
    status: str | None = None
    last_seen: str | None = None


class ChatStateFrame(Struct, tag_field="type", tag="typing", rename={"from_": "from"}):
    """Somebody is writing, or no longer."""

    conversation: str
    from_: str
    state: ChatState


class RosterFrame(Struct, tag_field="type", tag="contact"):
    """A contact was added or changed."""

    contact: ContactInfo


class RemovedFrame(Struct, tag_field="type", tag="contact_removed"):
    """A contact was removed."""

    jid: str


class RequestFrame(Struct, tag_field="type", tag="contact_request", omit_defaults=True, rename={"from_": "from"}):
    """Somebody asks to see the account's presence; not ``open`` when that was answered or taken back."""

    from_: str
    text: str = ""
    open: bool = True


class IncompleteFrame(Struct, tag_field="type", tag="incomplete"):
    """Frames other than messages were left out, because the client did not read: ask for contacts and presence."""


class SentFrame(Struct, tag_field="type", tag="sent"):
    """A message of this client is stored."""

    client_id: str
    message_id: Id | None
    sent_at: str


class ErrorFrame(Struct, tag_field="type", tag="error", omit_defaults=True):
    """A frame was refused; ``client_id`` says which message."""

    problem: Problem
    client_id: str | None = None


class PongFrame(Struct, tag_field="type", tag="pong", omit_defaults=True):
    """The answer to a ping."""

    id: str | None = None
