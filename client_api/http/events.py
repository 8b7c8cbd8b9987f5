"""Archive entries and live messages as JSON events."""

from __future__ import annotations

from typing import Final, Literal

from homeserver.domain.errors import BadRequest
from homeserver.domain.messages import Direction, Entry, Stored
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import (
    InvalidEvent,
    MessageEvent,
    Place,
    check,
    fragment,
    from_element,
    stanza_element,
)
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import element

_DIRECTIONS: Final[dict[Direction, Literal["incoming", "outgoing", "to_self"]]] = {
    Direction.INCOMING: "incoming",
    Direction.OUTGOING: "outgoing",
    Direction.TO_SELF: "to_self",
}

ChatState = Literal["active", "composing", "paused", "inactive", "gone"]
_STATES: Final[dict[str, ChatState]] = {
    f"{{{ns.CHAT_STATES}}}active": "active",
    f"{{{ns.CHAT_STATES}}}composing": "composing",
    f"{{{ns.CHAT_STATES}}}paused": "paused",
    f"{{{ns.CHAT_STATES}}}inactive": "inactive",
    f"{{{ns.CHAT_STATES}}}gone": "gone",
}
_BESIDE: Final = f"{{{ns.HINTS}}}"
_MOST_PARTS: Final = 8


def chat_state(event: MessageEvent) -> ChatState | None:
    """The chat state of a message that says nothing else (XEP-0085 s5.1); None for any other."""
    if event.text is not None or event.reaction is not None or event.kind == "error" or len(event.xml) > _MOST_PARTS:
        return None
    if event.replaces or event.retracts or event.displayed or event.delivered:
        return None
    tags = [fragment(text).tag for text in event.xml if ns.CHAT_STATES in text or ns.HINTS in text]
    states = [_STATES[tag] for tag in tags if tag in _STATES]
    hints = sum(tag.startswith(_BESIDE) for tag in tags)
    return states[0] if len(states) == 1 and len(event.xml) == 1 + hints else None


def check_texts(*texts: str) -> None:
    """Refuse what XMPP clients could not be told. Raises `BadRequest`."""
    try:
        for text in texts:
            check(element(ns.CLIENT, "body", None, text))
    except InvalidEvent as error:
        raise BadRequest(str(error)) from error


def event_of(entry: Entry) -> MessageEvent:
    """The event of an archive entry."""
    place = Place(entry.id, entry.at, entry.peer, _DIRECTIONS[entry.direction])
    return from_element(stanza_element(entry.payload), place)


def event_of_stored(stored: Stored, owner: JID) -> MessageEvent:
    """The event of a message as ``owner`` sees it."""
    message = stored.message
    sender, recipient = message.sender.bare, message.to.bare
    direction: Literal["incoming", "outgoing", "to_self"] = "incoming"
    if sender == owner.bare:
        direction = "to_self" if recipient == owner.bare else "outgoing"
    peer = recipient if direction == "outgoing" else sender
    return from_element(stanza_element(message.payload), Place(stored.id, stored.at, peer, direction))
