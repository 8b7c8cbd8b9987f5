"""Push notifications: when a device is woken, and how often (XEP-0357 s7).

A message that is content, and that no connected device of its recipient was given, makes one notification to each app
server node of the account. Hibernating sessions (XEP-0198 s5) are not connected: what comes for them wakes, and so does
what a connection took down with it unacknowledged, or what a device does not acknowledge in time: a phone that lost its
network looks connected for long. Nobody is woken twice for one message. What comes soon after a
notification is put together into the next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from homeserver.counts import Tally
from homeserver.domain.errors import RemoteServerTimeout, ResourceConstraint
from homeserver.domain.messages import COPY, KEEP, Alert, Kind, Message, Stored
from homeserver.domain.push import Registration, Summary, is_transient, publish
from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import error_of
from homeserver.protocol.xml import child, parse_stanza, text_of
from homeserver.services.delivery import takes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.feature_settings import PushSettings
    from homeserver.domain.accounts import Account
    from homeserver.domain.sessions import Session
    from homeserver.services.contacts import Contacts
    from homeserver.services.enquiries import Enquiries
    from homeserver.services.mailboxes import Mailboxes
    from homeserver.services.push import AppServers
    from homeserver.services.sessions import Sessions

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 20_000
"""Accounts that are notified, or were within the interval, at the same time."""
MAX_TOLD: Final = 200_000
CALL_SECONDS: Final = 1.0
"""A call waits no longer than this after the notification before it."""
PER_SERVICE: Final = 50
"""Notifications that one domain of app servers may have unanswered; one that hangs holds up nobody else's."""
MAX_COUNT: Final = 100
MAX_BODY: Final = 500


@dataclass(slots=True)
class _Due:
    """The last message an account is to be told of, None once it was; ``call`` is set when somebody calls."""

    stored: Stored | None
    call: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Given:
    """The oldest message of an account whose acknowledgement is awaited, the newest, and when that is looked at."""

    oldest: Stored
    newest: Stored
    timer: asyncio.TimerHandle


class PushNotifications:
    """Writes to app servers. ``outcomes`` counts notifications taken, refused and failed, and messages dropped because
    too many accounts waited."""

    def __init__(
        self,
        registrations: AppServers,
        sessions: Sessions,
        mailboxes: Mailboxes,
        contacts: Contacts,
        enquiries: Enquiries,
        settings: PushSettings,
    ) -> None:
        self._registrations = registrations
        self._accounts = registrations.accounts
        self._sessions = sessions
        self._mailboxes = mailboxes
        self._contacts = contacts
        self._enquiries = enquiries
        self._settings = settings
        self._due: dict[int, _Due] = {}
        self._given: dict[int, _Given] = {}
        self._told: dict[int, int] = {}
        self._lanes: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcomes = Tally("taken", "refused", "failed", "dropped")

    def reload(self, settings: PushSettings) -> None:
        """Take over other settings for what comes from now on."""
        self._settings = settings

    async def close(self) -> None:
        """Stop. What was not sent is not sent later; the messages wait in the mailbox."""
        for given in self._given.values():
            given.timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- events -------------------------------------------------------------------------------------------------------

    def stored(self, stored: Stored, _sender: Account | None, recipient: Account | None) -> None:
        """A message is durable and about to be given to sessions; listens to `Messaging.on_stored`."""
        if recipient is None or recipient.id not in self._accounts:
            return
        message = stored.message
        if not message.alert or message.sender.bare == recipient.jid.bare:
            return
        if self._waits(message, recipient):
            self._tell(recipient, stored)
        elif stored.id and self._settings.unacknowledged:
            self._await(recipient, stored)

    def stranded(self, account: Account, unacknowledged: Sequence[Stored]) -> None:
        """A connection is lost and took these with it; listens to `Delivery.on_stranded`."""
        if account.id not in self._accounts or self._is_here(account):
            return
        told = self._told.get(account.id, 0)
        for stored in reversed(unacknowledged):
            if stored.message.alert and stored.id > told and stored.message.sender.bare != account.jid.bare:
                self._tell(account, stored)
                return

    def _await(self, account: Account, stored: Stored) -> None:
        """Look later whether a device acknowledged what it was given."""
        given = self._given.get(account.id)
        if given is not None:
            given.newest = stored
        elif len(self._given) < MAX_WAITING:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._settings.unacknowledged, self._look, account)
            self._given[account.id] = _Given(stored, stored, timer)

    def _look(self, account: Account) -> None:
        given = self._given.pop(account.id)
        connected = [each for each in self._sessions.of(account.jid.bare) if each.is_connected()]
        if connected and all(_holds(each, given.oldest.id) for each in connected):
            if given.newest.id > self._told.get(account.id, 0):
                self._tell(account, given.newest)
        elif given.newest is not given.oldest:
            self._await(account, given.newest)

    def _waits(self, message: Message, recipient: Account) -> bool:
        """Whether no connected session will be given the message, and one that returns will be."""
        sessions = self._sessions.of(recipient.jid.bare)
        if not sessions:
            return bool(message.treatment & KEEP)
        target = self._sessions.find(message.to) if message.to.resource else None
        copied = message.treatment & COPY
        is_held = target is not None
        for session in sessions:
            if target is None:
                gets = takes(session) and message.kind is not Kind.GROUPCHAT
            else:
                gets = session is target or bool(copied and session.wants_copies and session.priority is not None)
            if gets and session.is_connected():
                return False
            is_held = is_held or gets
        return is_held or bool(message.treatment & KEEP)

    def _is_here(self, account: Account) -> bool:
        sessions = self._sessions.of(account.jid.bare)
        return any(takes(session) and session.is_connected() for session in sessions)

    def _tell(self, account: Account, stored: Stored) -> None:
        if stored.id:
            self._told.pop(account.id, None)
            self._told[account.id] = stored.id
            if len(self._told) > MAX_TOLD:
                del self._told[next(iter(self._told))]
        due = self._due.get(account.id)
        if due is None:
            if len(self._due) >= MAX_WAITING:
                self.outcomes.add("dropped")
                return
            due = self._due[account.id] = _Due(stored)
            task = asyncio.get_running_loop().create_task(self._work(account, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        due.stored = stored
        if stored.message.alert == Alert.CALL:
            due.call.set()

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _work(self, account: Account, due: _Due) -> None:
        """Tell of one message at once, then of what came within the interval, until nothing came."""
        try:
            while due.stored is not None:
                stored, due.stored = due.stored, None
                due.call.clear()
                await self._notify(account, stored)
                await self._pause(due)
                if due.stored is not None and self._is_here(account):
                    due.stored = None  # a device came meanwhile, and was given it
        except Exception:
            log.exception("notification not made", account=account.jid.bare)
        finally:
            if self._due.get(account.id) is due:
                del self._due[account.id]

    async def _pause(self, due: _Due) -> None:
        interval = self._settings.interval
        shortest = min(CALL_SECONDS, interval)
        await asyncio.sleep(shortest)
        if interval > shortest:
            with suppress(TimeoutError):
                await asyncio.wait_for(due.call.wait(), interval - shortest)

    async def _notify(self, account: Account, stored: Stored) -> None:
        registrations = await self._registrations.of(account)
        if not registrations:
            return
        summary = await self._summary(account, stored)
        await asyncio.gather(*(self._publish(account, found, summary) for found in registrations))

    async def _summary(self, account: Account, stored: Stored) -> Summary:
        waiting = await self._mailboxes.pending(account, MAX_COUNT)
        requests = await self._contacts.requests(account)
        message, settings = stored.message, self._settings
        sender = str(message.sender) if settings.include_sender else None
        body: str | None = settings.text or None
        if settings.include_body:
            said = text_of(parse_stanza(message.payload), ns.CLIENT, "body")
            body = said[:MAX_BODY] if said else body
        return Summary(max(1, len(waiting)), len(requests), sender, body)

    async def _publish(self, account: Account, found: Registration, summary: Summary) -> None:
        domain = found.service.domain
        lane = self._lanes.get(domain)
        if lane is None:
            lane = self._lanes[domain] = asyncio.Semaphore(PER_SERVICE)
        is_final = False
        async with lane:
            try:
                answer = await self._enquiries.exchange(
                    account.jid, found.service, publish(found, summary), "set", self._settings.timeout
                )
            except (RemoteServerTimeout, ResourceConstraint):
                pass  # it may have come or not; it counts as a failure, and is not sent again
            else:
                if answer.type == "result":
                    self.outcomes.add("taken")
                    await self._registrations.worked(found)
                    return
                error = child(answer.element, ns.CLIENT, "error")
                kind = "" if error is None else error.get("type", "")
                is_final = not is_transient(error_of(answer.element) or "", kind)
        self.outcomes.add("refused" if is_final else "failed")
        await self._registrations.failed(account, found, is_final=is_final)


def _holds(session: Session, id_: int) -> bool:
    """Whether a session was given a message and has not acknowledged it."""
    oldest = session.oldest_unacknowledged()
    return oldest is not None and oldest <= id_
