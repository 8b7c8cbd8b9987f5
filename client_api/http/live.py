"""The WebSocket of the JSON API: what is missed first, then live, each message once.

One task feeds a socket. It is either *behind*, and then takes pages of the mailbox, or live, and then takes what was
delivered. A delivery while it is behind only notes that there is more; so the step from one to the other leaves no gap
and repeats nothing. A client that does not read falls behind again when its queue is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from client_api.http.events import event_of, event_of_stored
from client_api.http.frames import (
    ContactFrame,
    EphemeralFrame,
    MessageFrame,
    ReadyFrame,
    SyncedFrame,
)
from homeserver.domain.errors import ServiceUnavailable
from homeserver.domain.messages import ARCHIVE, PageRequest, Relation, Stored
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import Place, from_element
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza, error_reply
from homeserver.protocol.xml import text_of
from homeserver.services.delivery import Delivery
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.presence import Presence
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.services.tokens import Caller
from homeserver.xmpp.errors import stanza_error

log = structlog.get_logger(__name__)

PAGE: Final = 50
MAX_UNACKNOWLEDGED: Final = 1000
MAX_CONTACTS: Final = 5000
CLOSE_CODES: Final = {
    "conflict": 4409,
    "not-authorized": 4401,
    "policy-violation": 1008,
    "system-shutdown": 1001,
}


class LiveSession:
    """A JSON client on a socket; what services see of it is `homeserver.domain.sessions.Session`.

    ``cursor`` is the position up to which the client has everything. Frames wait in a queue of at most ``limit`` bytes.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        caller: Caller,
        cursor: int,
        limit: int,
        mailboxes: Mailboxes,
        services: LiveServices,
    ) -> None:
        self.account = caller.account
        self.device = caller.device
        self.jid = caller.account.jid.with_resource(caller.device)
        self.priority: int | None = 0
        self.presence: Stanza | None = None
        self.wants_roster = False
        self.wants_blocks = False
        self.wants_copies = True
        self.uses_archive = False
        self.contacts: dict[str, ContactFrame] = {}
        self.acknowledged = cursor
        self.position = cursor
        self.ended = False
        self._socket = socket
        self._limit = limit
        self._mailboxes = mailboxes
        self._services = services
        self._unacknowledged: deque[Stored] = deque(maxlen=MAX_UNACKNOWLEDGED)
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._behind = True
        self._synced = False
        self._newest = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._feeding: asyncio.Task[None] | None = None
        self.close_code = 1000
        self.close_text = ""
        # Before it is bound: from then on presence may come, that of the socket it replaces first of all.
        self._queue(msgspec.json.encode(ReadyFrame(self.device, str(self.jid), self.position)))

    # --- what services call ------------------------------------------------------------------------------------------

    def deliver(self, stored: Stored, relation: Relation, late: bool = False) -> None:
        """Take a message (see `Session.deliver`)."""
        if self.ended:
            return
        if not stored.message.treatment & ARCHIVE:
            # No page will ever hold it, so it has no place among the positions.
            self._offer(EphemeralFrame(event_of_stored(stored, self.account.jid)))
            return
        if relation is not Relation.SENT_ELSEWHERE and not late:
            self._unacknowledged.append(stored)
        if stored.id <= self.position:
            return
        if self._behind or self._bytes > self._limit:
            self._behind = True
            self._newest = max(self._newest, stored.id)
            self._wake.set()
            return
        self.position = stored.id
        self._queue(self._rendered(stored))

    def is_connected(self) -> bool:
        """Whether its socket is open."""
        return not self.ended

    def has_room(self) -> bool:
        """It reads what waited itself, at its pace."""
        return True

    def oldest_unacknowledged(self) -> int | None:
        """The lowest id it was given and has not acknowledged."""
        return self._unacknowledged[0].id if self._unacknowledged else None

    def has_read(self, ids: Iterable[int]) -> None:
        """It does not read the archive by IQ; pages over HTTP do not count as delivered."""

    def already_read(self) -> frozenset[int]:
        """Nothing, see `has_read`."""
        return frozenset()

    def is_visible_to(self, asker: JID) -> bool:
        """Whether ``asker`` may know that it is there (RFC 6121 s8.5.3.1)."""
        return self._services.presence.is_visible(self.jid, asker)

    def send(self, stanza: Stanza) -> None:
        """Take a presence, an IQ or a message that is not stored."""
        if self.ended:
            return
        if stanza.name == "presence":
            self._show(stanza)
        elif stanza.name == "message":
            place = Place(0, 0, stanza.sender.bare, "incoming")
            self._offer(EphemeralFrame(from_element(stanza.element, place)))
        elif stanza.type in ("get", "set"):
            # JSON clients answer no IQ; who asks must not wait for one (RFC 6120 s8.2.3).
            answer = error_reply(stanza, stanza_error(ServiceUnavailable()))
            self._services.router.route(Stanza(answer, self.jid, stanza.sender))

    def disconnect(self, condition: str, text: str = "") -> None:
        """End it; ``condition`` decides the close code."""
        log.info("live session ends", jid=str(self.jid), condition=condition, text=text)
        self.close_code = CLOSE_CODES.get(condition, 1011)
        self.end()

    # --- what the face calls -----------------------------------------------------------------------------------------

    def reply(self, frame: msgspec.Struct) -> None:
        """Queue an answer to the client itself."""
        if not self.ended:
            self._queue(msgspec.json.encode(frame))

    def ack(self, position: int) -> bool:
        """The client processed everything up to ``position``; False when that was never sent."""
        if position > self.position:
            return False
        if position > self.acknowledged:
            self.acknowledged = position
            while self._unacknowledged and self._unacknowledged[0].id <= position:
                self._unacknowledged.popleft()
            self._services.delivery.settled(self, position, lazy=True)
        return True

    async def room(self) -> None:
        """Wait until the client has read enough of what is queued for it."""
        await self._room.wait()

    def end(self) -> None:
        """Leave the services and stop feeding; whoever started the feed closes the socket."""
        if self.ended:
            return
        self.ended = True
        self._room.set()
        if self._feeding is not None:
            self._feeding.cancel()
        left = list(self._unacknowledged)
        self._services.sessions.unbind(self)
        self._services.delivery.redeliver(self, left)

    def start(self) -> asyncio.Task[None]:
        """Start writing frames; the task ends with the session or with the connection."""
        self._feeding = asyncio.create_task(self._feed())
        return self._feeding

    async def _feed(self) -> None:
        try:
            while True:
                if self._frames:
                    await self._write()
                elif self._behind:
                    await self._catch_up()
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except ConnectionError:
            log.debug("live socket lost", jid=str(self.jid))
        except Exception:
            log.exception("live feed failed", jid=str(self.jid))
            self.close_code = 1011

    async def _write(self) -> None:
        frame = self._frames.popleft()
        await self._socket.send_str(frame.decode())
        self._bytes -= len(frame)
        if self._bytes <= self._limit:
            self._room.set()

    async def _catch_up(self) -> None:
        goal = self._newest
        page = await self._mailboxes.page(self.account, PageRequest(limit=PAGE, after=self.position))
        for entry in page.entries:
            self.position = entry.id
            self._queue(msgspec.json.encode(MessageFrame(entry.id, event_of(entry))))
        if page.complete and self._newest <= goal:
            # What was delivered before this page was read is in it; nothing has been delivered since.
            self._behind = False
            if not self._synced:
                self._synced = True
                self._queue(msgspec.json.encode(SyncedFrame(self.position)))

    def _rendered(self, stored: Stored) -> bytes:
        key = f"json {self.account.jid.bare}"
        made = stored.rendered.get(key)
        if made is None:
            made = msgspec.json.encode(MessageFrame(stored.id, event_of_stored(stored, self.account.jid)))
            stored.rendered[key] = made
        return made

    def _show(self, stanza: Stanza) -> None:
        if stanza.type not in ("", "unavailable"):
            return
        frame = ContactFrame(
            str(stanza.sender),
            stanza.type == "",
            text_of(stanza.element, ns.CLIENT, "show") or None,
            text_of(stanza.element, ns.CLIENT, "status") or None,
        )
        if not frame.available:
            self.contacts.pop(frame.from_, None)
        elif frame.from_ in self.contacts or len(self.contacts) < MAX_CONTACTS:
            self.contacts[frame.from_] = frame
        self._offer(frame)

    def _offer(self, frame: Any) -> None:
        """Queue what may be lost to a client that does not read."""
        if self._bytes <= self._limit:
            self._queue(msgspec.json.encode(frame))

    def _queue(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > self._limit:
            self._room.clear()
        self._wake.set()


class LiveServices:
    """What every live session calls."""

    def __init__(self, sessions: Sessions, delivery: Delivery, presence: Presence, router: Router) -> None:
        self.sessions = sessions
        self.delivery = delivery
        self.presence = presence
        self.router = router
