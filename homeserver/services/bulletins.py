"""Messages of the server itself to its accounts, as stanzas."""

from __future__ import annotations

from typing import Final

from homeserver.domain.messages import ARCHIVE, KEEP, Alert, Kind, Message
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import MESSAGE
from homeserver.protocol.xml import Element, element, serialise

_STORED: Final = ARCHIVE | KEEP


class Bulletin:
    """One text for many accounts, from the domain of each. ``subject`` may be empty; ``id`` is the stanza's.

    A stored one is a normal message that waits for who is away; the other is a headline (RFC 6121 s5.2.2), gone when
    nobody is there.
    """

    def __init__(self, id_: str, subject: str, text: str, *, stored: bool = True) -> None:
        self._id = id_
        self._kind = Kind.NORMAL if stored else Kind.HEADLINE
        self._treatment = _STORED if stored else 0
        self._alert = Alert.CONTENT if stored else Alert.NONE
        self._content: list[Element] = [element(ns.CLIENT, "subject", None, subject)] if subject else []
        self._content.append(element(ns.CLIENT, "body", None, text))

    def to(self, account: JID) -> Message:
        """The message for one account."""
        sender = JID("", account.domain)
        kind = "normal" if self._kind is Kind.NORMAL else "headline"
        made = Element(MESSAGE, {"from": str(sender), "to": account.bare, "type": kind, "id": self._id})
        made.extend(self._content)
        payload = serialise(made).encode()
        return Message(
            sender, account.to_bare(), self._kind, self._treatment, self._id, None, payload, int(self._alert)
        )
