"""What services may ask of a live session, whatever face it has."""

from collections.abc import Iterable
from typing import Protocol

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Relation, Stored
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza


class Session(Protocol):
    """One bound client, or one that lost its connection and may resume.

    ``priority`` is None until initial presence and after unavailable presence (RFC 6121 s4.2, s4.5).
    ``presence`` is the last available presence it broadcast. ``wants_roster`` is set by asking for the roster
    (RFC 6121 s2.2), ``wants_blocks`` by asking for the block list (XEP-0191 s3.2), ``wants_copies`` by XEP-0280.
    ``device`` is the id of the client that it said (XEP-0388 s2.3), or of
    the device of the JSON API. One that ``uses_archive`` reads there what waited (XEP-0386 s3.2). None of the methods waits.
    """

    account: Account
    jid: JID
    priority: int | None
    presence: Stanza | None
    wants_roster: bool
    wants_blocks: bool
    uses_archive: bool
    wants_copies: bool

    @property
    def device(self) -> str | None: ...

    def deliver(self, stored: Stored, relation: Relation, late: bool = False) -> None:
        """Take a message; ``late`` when it waited in the mailbox and needs a delay stamp (XEP-0203)."""

    def is_connected(self) -> bool:
        """Whether a client is there now; false while the session waits to be resumed (XEP-0198 s5)."""

    def has_room(self) -> bool:
        """Whether it can be given more of what waited without passing the bounds of what may be on its way to it."""

    def oldest_unacknowledged(self) -> int | None:
        """The lowest id it was given and has not acknowledged; None where there is none."""

    def has_read(self, ids: Iterable[int]) -> None:
        """Note what it read from the archive, or was given by its full JID, before it takes messages, so that it is
        not given that twice."""

    def already_read(self) -> frozenset[int]:
        """What `has_read` noted; forgotten by asking."""

    def is_visible_to(self, asker: JID) -> bool:
        """Whether the other side may know that it is there: a subscription or directed presence (RFC 6121 s8.5.3.1)."""

    def send(self, stanza: Stanza) -> None:
        """Take a presence, an IQ or a message that is not stored."""

    def disconnect(self, condition: str, text: str = "") -> None:
        """End it with a stream error condition (RFC 6120 s4.9.3), for example ``conflict``."""
