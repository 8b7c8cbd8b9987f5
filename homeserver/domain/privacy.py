"""What an account lets others do: whom it blocks, what it archives, what strangers may send."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from homeserver.domain.rosters import Roster
from homeserver.protocol.jid import JID


class Archiving(StrEnum):
    """What is archived of those who are in neither list (XEP-0441 s2.1.1)."""

    ALWAYS = "always"
    NEVER = "never"
    ROSTER = "roster"


class Strangers(StrEnum):
    """What becomes of messages from somebody who is no contact and was never written to."""

    OFF = "off"
    MARK = "mark"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ArchivePreferences:
    """Whose messages an account archives (XEP-0441). ``always`` and ``never`` hold addresses as text, sorted."""

    default: Archiving = Archiving.ALWAYS
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    def keeps(self, peer: JID, roster: Roster | None) -> bool:
        """Whether a message to or from ``peer`` is archived (XEP-0441 s2.3).

        A full address counts before a bare one, and ``never`` before ``always``. ``roster`` is needed where the default
        asks for it.
        """
        for text in (str(peer), peer.bare):
            if text in self.never:
                return False
            if text in self.always:
                return True
        if self.default is Archiving.ROSTER:
            contact = None if roster is None else roster.get(peer.bare)
            return contact is not None and contact.listed
        return self.default is Archiving.ALWAYS


EVERYTHING = ArchivePreferences()
"""What an account archives that never said anything."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one account. ``owner`` is its bare JID; ``blocked`` holds addresses as text.

    ``strangers`` is the policy that applies; ``own_strangers`` what the account chose, or None. ``roster`` is there where
    one of the policies asks for it.
    """

    owner: JID
    blocked: frozenset[str] = frozenset()
    archive: ArchivePreferences = EVERYTHING
    own_strangers: Strangers | None = None
    strangers: Strangers = Strangers.OFF
    roster: Roster | None = field(default=None, compare=False)

    def blocks(self, jid: JID) -> bool:
        """Whether the account blocks an address: itself, its bare form or its domain is in the list (XEP-0191 s6).

        The account's own resources and the address of its own server are never blocked (XEP-0191 s5).
        """
        blocked = self.blocked
        if not blocked or jid.bare == self.owner.bare or str(jid) == self.owner.domain:
            return False
        return str(jid) in blocked or jid.bare in blocked or jid.domain in blocked

    def keeps(self, peer: JID) -> bool:
        """Whether messages to and from ``peer`` go into the account's archive."""
        return self.archive.keeps(peer, self.roster)

    def knows(self, peer: JID) -> bool:
        """Whether ``peer`` is the account itself, its server, or a contact: in the roster, asked, or subscribed."""
        if peer.bare in (self.owner.bare, self.owner.domain):
            return True
        contact = None if self.roster is None else self.roster.get(peer.bare)
        return contact is not None and (contact.listed or contact.state.shares or contact.state.receives)


def covers(blocked: Iterable[str], jid: JID) -> bool:
    """Whether one of these addresses stands for ``jid`` (XEP-0191 s6)."""
    return any(text in blocked for text in (str(jid), jid.bare, jid.domain))
