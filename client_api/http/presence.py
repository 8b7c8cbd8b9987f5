"""Presence: who is available, and what one's own devices show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from client_api.http.auth import time_text
from client_api.http.endpoint import endpoint
from client_api.http.frames import PresenceFrame, Show, Status
from homeserver.domain.errors import Conflict
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import text_of
from homeserver.services.absences import Absences
from homeserver.services.contacts import Contacts
from homeserver.services.sessions import Sessions
from homeserver.services.tokens import Caller

if TYPE_CHECKING:
    from client_api.http.socket import Live


class NewPresence(Struct, forbid_unknown_fields=True):
    """What contacts see of this device."""

    available: bool
    show: Show | None = None
    status: Status | None = None


class ContactPresence(Struct, rename={"from_": "from"}):
    """One available session of a contact, or of the account itself; or a contact that is away since ``last_seen``."""

    from_: str
    available: bool
    show: str | None
    status: str | None
    last_seen: str | None = None


class PresenceList(Struct):
    """Everybody the account may see who is available, and contacts of whom it is known since when they are away."""

    presence: list[ContactPresence]


class PresenceEndpoints:
    """Presence over HTTP; the socket has it live."""

    def __init__(self, contacts: Contacts, sessions: Sessions, absences: Absences, live: Live) -> None:
        self._contacts = contacts
        self._sessions = sessions
        self._absences = absences
        self._live = live

    @endpoint("GET", "/v1/presence", returns=PresenceList)
    async def show(self, caller: Caller) -> PresenceList:
        """Who is available, or since when away; contacts on other servers are known while a socket of this device is open."""
        roster = await self._contacts.roster(caller.account)
        found: dict[str, ContactPresence] = {}
        session = self._live.session_of(caller.device)
        if session is not None:
            for frame in (*session.contacts.values(), *session.away.values()):
                found[frame.from_] = ContactPresence(
                    frame.from_, frame.available, frame.show, frame.status, frame.last_seen
                )
        for jid in [caller.account.jid, *roster.subscriptions]:
            for other in self._sessions.of(jid.bare):
                if other.presence is None:
                    continue
                shown = other.presence.element
                name = str(other.jid)
                found[name] = ContactPresence(
                    name, True, text_of(shown, ns.CLIENT, "show") or None, text_of(shown, ns.CLIENT, "status") or None
                )
        away = [jid for jid in roster.subscriptions if all(one.presence is None for one in self._sessions.of(jid.bare))]
        for name, at in (await self._absences.of(caller.account, away)).items():
            found[name] = ContactPresence(name, False, None, None, time_text(at))
        return PresenceList(sorted(found.values(), key=lambda made: made.from_))

    @endpoint("PUT", "/v1/presence", body=NewPresence, status=204, errors=(Conflict,))
    async def change(self, caller: Caller, body: NewPresence) -> None:
        """Set what this device shows; 409 when it has no socket open, for presence ends with it."""
        session = self._live.session_of(caller.device)
        if session is None:
            raise Conflict("no socket of this device is open")
        await self._live.show(session, PresenceFrame(body.available, body.show, body.status))
