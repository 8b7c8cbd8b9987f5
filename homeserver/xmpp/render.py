"""From a stored message to stanzas: as addressed, as a copy, as an archive result.

All three splice around the payload that entered; nothing is parsed or built again.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from homeserver.domain.messages import Entry, Kind, Relation, Stored
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import escape_attribute

_END: Final = b"</message>"
_STANZA_ID: Final = f"<stanza-id xmlns='{ns.STANZA_ID}' by='"
_TYPES: Final = {
    Kind.NORMAL: "normal",
    Kind.CHAT: "chat",
    Kind.GROUPCHAT: "groupchat",
    Kind.HEADLINE: "headline",
    Kind.ERROR: "error",
}
_WRAPPER_TAGS: Final = {Relation.SENT_ELSEWHERE: "sent", Relation.RECEIVED_ELSEWHERE: "received"}


def stamp(at: int) -> str:
    """Microseconds since the epoch as XEP-0082 s3.2 DateTime, in UTC."""
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def direct(stored: Stored, owner: str) -> bytes:
    """The message as its addressee gets it, with the stanza-id of ``owner``'s archive (XEP-0359 s5)."""
    if not stored.id:
        return stored.message.payload
    made = stored.rendered.get(owner)
    if made is None:
        payload = stored.message.payload
        made = b"%b%b%d'/></message>" % (payload[: -len(_END)], _mark(owner), stored.id)
        stored.rendered[owner] = made
    return made


@lru_cache(maxsize=16384)
def _mark(owner: str) -> bytes:
    """The stanza-id of an archive up to its number."""
    return f"{_STANZA_ID}{escape_attribute(owner)}' id='".encode()


def late(stored: Stored, owner: str, domain: str) -> bytes:
    """The message with the stamp of when it came (XEP-0203); ``domain`` is who kept it."""
    delay = f"<delay xmlns='{ns.DELAY}' from='{escape_attribute(domain)}' stamp='{stamp(stored.at)}'/></message>"
    return direct(stored, owner)[: -len(_END)] + delay.encode()


def carbon(stored: Stored, relation: Relation, owner: str, to: str) -> bytes:
    """The copy for another session (XEP-0280 s7, s8); ``owner`` is its bare JID, ``to`` its full one."""
    tag = _WRAPPER_TAGS[relation]
    head = (
        f"<message from='{escape_attribute(owner)}' to='{escape_attribute(to)}' type='{_TYPES[stored.message.kind]}'>"
        f"<{tag} xmlns='{ns.CARBONS}'><forwarded xmlns='{ns.FORWARD}'>"
    )
    return head.encode() + _standalone(direct(stored, owner)) + f"</forwarded></{tag}></message>".encode()


def archive_result(entry: Entry, query_id: str | None, owner: str, to: str) -> bytes:
    """One result of an archive query (XEP-0313 s4.2)."""
    asked = "" if query_id is None else f" queryid='{escape_attribute(query_id)}'"
    head = (
        f"<message from='{escape_attribute(owner)}' to='{escape_attribute(to)}'>"
        f"<result xmlns='{ns.ARCHIVE}'{asked} id='{entry.id}'><forwarded xmlns='{ns.FORWARD}'>"
        f"<delay xmlns='{ns.DELAY}' stamp='{stamp(entry.at)}'/>"
    )
    return head.encode() + _standalone(entry.payload) + b"</forwarded></result></message>"


def _standalone(payload: bytes) -> bytes:
    """The message where its surroundings have another default namespace."""
    if payload.startswith(b"<message xmlns="):
        return payload
    return f"<message xmlns='{ns.CLIENT}'".encode() + payload[len(b"<message") :]
