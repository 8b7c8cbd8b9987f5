"""Archive entries and live messages as JSON events."""

from __future__ import annotations

from typing import Final, Literal

from homeserver.domain.messages import Direction, Entry, Stored
from homeserver.protocol.events_json import MessageEvent, Place, from_element, stanza_element
from homeserver.protocol.jid import JID

_DIRECTIONS: Final[dict[Direction, Literal["incoming", "outgoing", "to_self"]]] = {
    Direction.INCOMING: "incoming",
    Direction.OUTGOING: "outgoing",
    Direction.TO_SELF: "to_self",
}


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
