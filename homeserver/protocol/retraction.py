"""Messages that take back others, and what is left of those (XEP-0424)."""

from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import stanza_element, timestamp
from homeserver.protocol.xml import Element, element, serialise

_RETRACT: Final = f"{{{ns.RETRACTION}}}retract"
_ORIGIN: Final = f"{{{ns.STANZA_ID}}}origin-id"


def target(payload: bytes) -> str | None:
    """The id of the message that a retraction names (XEP-0424 s3); None where it names none."""
    found = stanza_element(payload).find(_RETRACT)
    return None if found is None else found.get("id") or None


def tombstone(payload: bytes, retraction_id: str, at: int) -> bytes:
    """What stands in the archive instead of a message that was taken back (XEP-0424 s4).

    Addresses, type and ids stay; ``at`` is when it was taken back, in microseconds since the epoch.
    """
    before = stanza_element(payload)
    left = Element(before.tag, before.attrib)
    origin = before.find(_ORIGIN)
    if origin is not None:
        left.append(element(ns.STANZA_ID, "origin-id", {"id": origin.get("id", "")}))
    left.append(element(ns.RETRACTION, "retracted", {"id": retraction_id, "stamp": timestamp(at)}))
    return serialise(left).encode()
