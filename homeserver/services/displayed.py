"""What an account's devices note about reading in its own store (XEP-0490), taken over as read positions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import ParseError

import structlog

from homeserver.domain.errors import DomainError
from homeserver.domain.pubsub import EventKind, Item, NodeEvent
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import child, parse_own

if TYPE_CHECKING:
    from homeserver.services.accounts import Accounts
    from homeserver.services.inbox import Inbox
    from homeserver.services.mailboxes import Mailboxes

log = structlog.get_logger(__name__)

MOST_NOTES: Final = 1000
"""Notes on their way into the store at once; more are left out, and the next one of the conversation makes up for it."""


class DisplayedNotes:
    """Listens to `PubSub.on_event`. A note names a conversation and the last message of it that was displayed."""

    def __init__(self, inbox: Inbox, mailboxes: Mailboxes, accounts: Accounts) -> None:
        self._inbox = inbox
        self._mailboxes = mailboxes
        self._accounts = accounts
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, event: NodeEvent) -> None:
        """Take the notes of one event (XEP-0490 s3.1)."""
        if event.node != ns.DISPLAYED_SYNC or event.kind is not EventKind.PUBLISH or not event.host.local:
            return
        for item in event.items:
            named = _named(item, event.host)
            if named is not None and len(self._tasks) < MOST_NOTES:
                task = asyncio.get_running_loop().create_task(self._take(event.host, *named))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _take(self, host: JID, peer: str, id_: int) -> None:
        try:
            account = await self._accounts.find(host.bare)
            if account is None:
                return
            entry = await self._mailboxes.find(account, id_)
            if entry is not None and entry.peer == peer:
                await self._inbox.read(account, peer, id_)
        except DomainError as error:
            log.info("what was displayed could not be noted", account=host.bare, reason=error.text)
        except Exception:
            log.exception("what was displayed could not be noted", account=host.bare)


def _named(item: Item, host: JID) -> tuple[str, int] | None:
    """The conversation and the archive id that a note names; None where it is about another archive, such as a room's."""
    try:
        peer = JID.parse(item.id).bare
        stanza_id = child(parse_own(item.payload), ns.STANZA_ID, "stanza-id")
        if stanza_id is None or JID.parse(stanza_id.get("by", "")) != host.to_bare():
            return None
    except (InvalidJID, ParseError, ValueError):
        return None
    id_ = stanza_id.get("id", "")
    return (peer, int(id_)) if id_.isascii() and id_.isdigit() and len(id_) <= 16 else None
