"""Delivery receipts in the name of JSON clients (XEP-0184).

An XMPP client says itself that a message arrived. For a JSON client the server does, when the client acknowledged the
position: once for each message, however many JSON devices the account has, and only to those who may see its presence.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import structlog

from client_api.http.messages import NewMessage
from homeserver.domain.errors import DomainError
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import MessageEvent, fragment
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import element, serialise

if TYPE_CHECKING:
    from client_api.http.messages import Messages
    from homeserver.domain.accounts import Account
    from homeserver.services.presence import Presence

log = structlog.get_logger(__name__)

REMEMBERED: Final = 10_000
"""Accounts whose newest receipt is kept in memory."""
MOST_WAITING: Final = 1000
_REQUEST: Final = f"{{{ns.RECEIPTS}}}request"


@dataclass(frozen=True, slots=True)
class Owed:
    """A message whose sender wants to know that it arrived; ``stanza_id`` is what the sender calls it."""

    id: int
    sender: JID
    stanza_id: str
    kind: Literal["chat", "normal"]


class Receipts:
    """Sends them, one after the other for an account."""

    def __init__(self, messages: Messages, presence: Presence) -> None:
        self._messages = messages
        self._presence = presence
        self._newest: OrderedDict[int, int] = OrderedDict()
        self._waiting: dict[int, deque[tuple[Account, JID, Owed]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, account: Account, source: JID, due: Sequence[Owed]) -> None:
        """The client ``source`` of an account has these messages, by rising ids."""
        newest = self._newest.pop(account.id, 0)
        fresh = [(account, source, one) for one in due if one.id > newest]
        self._newest[account.id] = max(newest, due[-1].id) if due else newest
        if len(self._newest) > REMEMBERED:
            self._newest.popitem(last=False)
        if not fresh:
            return
        waiting = self._waiting.get(account.id)
        if waiting is not None:
            waiting.extend(fresh)
            return
        self._waiting[account.id] = deque(fresh, maxlen=MOST_WAITING)
        task = asyncio.get_running_loop().create_task(self._work(account.id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, account: int) -> None:
        waiting = self._waiting[account]
        try:
            while waiting:
                await self._send(*waiting.popleft())
        except Exception:
            log.exception("receipts not sent", account=account)
        finally:
            del self._waiting[account]

    async def _send(self, account: Account, source: JID, one: Owed) -> None:
        if not await self._presence.may_see(account, one.sender):
            return  # XEP-0184 s8.1: a receipt says that somebody is there
        part = serialise(element(ns.RECEIPTS, "received", {"id": one.stanza_id}), "")
        receipt = NewMessage(str(one.sender), secrets.token_hex(16), kind=one.kind, xml=[part])
        try:
            await self._messages.pass_by(account, source, receipt)
        except DomainError as error:
            log.debug("receipt refused", account=account.jid.bare, reason=type(error).__name__)


def owed(event: MessageEvent, owner: JID) -> Owed | None:
    """What the client ``owner`` owes the sender of a message; None where it asked for nothing, or asked another client."""
    if event.direction != "incoming" or not event.stanza_id or event.delivered is not None:
        return None
    if event.kind not in ("chat", "normal") or event.to not in (str(owner), owner.bare):
        return None
    if not any(ns.RECEIPTS in text and fragment(text).tag == _REQUEST for text in event.xml):
        return None
    try:
        sender = JID.parse(event.from_)
    except InvalidJID:
        return None
    return Owed(event.id, sender, event.stanza_id, event.kind)
