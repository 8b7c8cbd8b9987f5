"""Error stanzas for messages that came back from the queue to another server."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.parser import StreamEnd, StreamHeader, StreamParser, XmlFault, XmlLimits
from homeserver.protocol.stanza import MESSAGE, Stanza, StanzaError
from homeserver.protocol.xml import Element
from homeserver.storage.outbox import OutboxRow

NOT_DELIVERED: Final = "remote-server-not-found"
MAYBE_DELIVERED: Final = "remote-server-timeout"
FORBIDDEN: Final = "forbidden"
UNREADABLE: Final = "bad-request"
TEXTS: Final = {
    NOT_DELIVERED: "Not delivered: {} could not be reached.",
    MAYBE_DELIVERED: "May have been delivered: {} did not confirm it.",
    FORBIDDEN: "Not delivered: {} does not take messages from this server.",
    UNREADABLE: "Not delivered: {} could not read it.",
}
_HEADER: Final = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>".encode()
_LIMITS: Final = XmlLimits(max_bytes=16 * 1024 * 1024)


class Returns(Protocol):
    """Where error stanzas for local senders go."""

    async def prepare(self, senders: Sequence[str]) -> None:
        """Make ready what `returned` needs to know of these bare addresses."""

    def returned(self, stanza: Stanza) -> None:
        """Take an error for a local sender, into the open batch and without waiting."""


def returned_stanza(payload: bytes, peer: str, condition: str) -> Stanza | None:
    """The error that answers ``payload`` (RFC 6120 s8.3): addresses swapped, the content quoted.

    None where no error may answer it: an error itself, or something without both addresses.
    """
    parser = StreamParser(_LIMITS)
    try:
        parser.feed(_HEADER)
        items = parser.feed(payload)
        if len(items) != 1 or isinstance(items[0], StreamHeader | StreamEnd):
            return None
        original = items[0][0]
        sender = JID.parse(original.get("from", ""))
        to = JID.parse(original.get("to", ""))
    except (XmlFault, InvalidJID):
        return None
    if original.get("type") == "error":
        return None
    made = Element(original.tag, {"type": "error", "from": str(to), "to": str(sender)})
    if "id" in original.attrib:
        made.set("id", original.attrib["id"])
    if original.tag == MESSAGE:
        made.extend(original)
    made.append(StanzaError(condition, text=TEXTS[condition].format(peer)).to_element())
    return Stanza(made, to, sender)


async def errors_for(
    returns: Returns, rows: Sequence[OutboxRow], peer: str, condition: Callable[[OutboxRow], str]
) -> list[Stanza]:
    """The errors for rows that come back, their recipients prepared for `Returns.returned`."""
    made = [returned_stanza(row.payload, peer, condition(row)) for row in rows if row.payload]
    errors = [error for error in made if error is not None]
    await returns.prepare(sorted({error.to.bare for error in errors if error.to is not None}))
    return errors


def honest_condition(sent_id: int) -> Callable[[OutboxRow], str]:
    """What to tell the sender of a row, given the last row id that was ever in a request."""
    return lambda row: MAYBE_DELIVERED if row.id <= sent_id else NOT_DELIVERED
