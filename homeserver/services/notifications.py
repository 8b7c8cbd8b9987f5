"""Notifications: what happens to nodes is told to those who want to know (XEP-0060 s7.1.2, s9.2, s12; XEP-0163 s4).

An event is written once; each recipient's copy is the same text with its address put in. Told are the interested clients
of the account itself and of the contacts that see its presence and may read the node, each at its full JID; and whoever
subscribed to the node. A client that comes, or becomes interested, is given the newest items.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from homeserver.domain.accounts import AccountState
from homeserver.domain.pubsub import AccessModel, EventKind, Item, ItemReply, Node, NodeConfig, NodeEvent
from homeserver.protocol import pubsub_events as events
from homeserver.protocol.jid import JID
from homeserver.protocol.pubsub_events import EventItem, Notice
from homeserver.services.pubsub import access

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.rosters import Roster
    from homeserver.domain.sessions import Session
    from homeserver.services.accounts import Accounts
    from homeserver.services.audience import Audience, Elsewhere
    from homeserver.services.contacts import Contacts
    from homeserver.services.entity_caps import Interests
    from homeserver.services.pubsub.service import PubSub
    from homeserver.services.router import Router
    from homeserver.services.sessions import Sessions

log = structlog.get_logger(__name__)

MAX_TASKS: Final = 10_000
"""Clients that wait for their newest items."""
AT_ONCE: Final = 2
"""Clients that are given theirs meanwhile: the items of one may take a millisecond, of which others see nothing."""
_WIDE: Final = (AccessModel.OPEN, AccessModel.PRESENCE)
"""What everybody may read who sees the account's presence."""


class Notifications:
    """Listens to publish-subscribe, and to clients that come."""

    def __init__(
        self,
        pubsub: PubSub,
        audience: Audience,
        contacts: Contacts,
        accounts: Accounts,
        sessions: Sessions,
        router: Router,
    ) -> None:
        self._pubsub = pubsub
        self._audience = audience
        self._contacts = contacts
        self._accounts = accounts
        self._sessions = sessions
        self._router = router
        self._ids = map((secrets.token_urlsafe(6) + "-{}").format, itertools.count())
        self._tasks: set[asyncio.Task[None]] = set()
        self._given = asyncio.Semaphore(AT_ONCE)
        pubsub.on_event.append(self.told)
        audience.on_interest.append(self._arrived)
        audience.on_interest_elsewhere.append(self._arrived_elsewhere)
        contacts.on_granted.append(self._granted)

    def told(self, event: NodeEvent) -> None:
        """Something happened to a node. It is committed: if telling fails, who asked for it is answered all the same."""
        try:
            self._spread(event)
        except Exception:
            log.exception("notifying failed", host=event.host.bare, kind=event.kind.value)

    def _spread(self, event: NodeEvent) -> None:
        if event.kind is EventKind.SUBSCRIPTION or event.kind is EventKind.REQUEST:
            self._tell_of_subscription(event)
            return
        if not event.is_told:
            return
        content = _content(event)
        if event.kind is EventKind.LAST:
            notice = self._notice(event.host, event.config, content, events.delayed(event.items[-1].published_at))
            for jid in event.subscribers:
                self._router.pass_on(notice.to_recipient(jid))
            return
        if not self._router.is_local(event.host.domain) or not event.host.local:
            self._tell_subscribers(event, content, set())
            return
        roster = self._contacts.held(event.host.bare)
        if roster is None:
            self._begin(self._tell_later(event, content))
        else:
            self._tell(event, content, roster)

    async def settle(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    # --- events -----------------------------------------------------------------------------------------------------

    async def _tell_later(self, event: NodeEvent, content: bytes) -> None:
        account = await self._accounts.find(event.host.bare)
        if account is not None:
            self._tell(event, content, await self._contacts.roster(account))

    def _tell(self, event: NodeEvent, content: bytes, roster: Roster) -> None:
        """Tell the account's own clients and those of its contacts, then the subscribers that are left."""
        node, sessions_of, is_local = event.node, self._sessions.of, self._router.is_local
        notice = self._notice(event.host, event.config, content, _reply_to(event))
        told: set[str] | None = set() if event.subscribers else None
        self._tell_sessions(notice, sessions_of(event.host.bare), node, told)
        if event.config.access_model is not AccessModel.WHITELIST or event.affiliations:
            may_read = _judge(event, roster)
            for jid in roster.subscribers:
                if not is_local(jid.domain):
                    for client in tuple(self._audience.elsewhere(jid.bare, event.host.bare, node)):
                        if may_read(jid):
                            if told is not None:
                                told.update((jid.bare, str(client)))
                            self._router.pass_on(notice.to_recipient(client))
                    continue
                sessions = sessions_of(jid.bare)
                if sessions and may_read(jid) and not self._is_blocked(event.host, jid):
                    self._tell_sessions(notice, sessions, node, told)
        if told is not None:
            self._tell_subscribers(event, content, told)

    def _tell_sessions(self, notice: Notice, sessions: Sequence[Session], node: str, told: set[str] | None) -> None:
        """``told`` notes the addresses, where somebody will ask."""
        interests = self._audience.interests
        for session in sessions:
            if node in interests(session):
                jid = session.jid
                if told is not None:
                    told.update((jid.bare, str(jid)))
                session.send(notice.to_recipient(jid))

    def _is_blocked(self, one: JID, other: JID) -> bool:
        """Whether one of two accounts blocks the other (XEP-0163 s4.3.3, XEP-0191 s3.3)."""
        return self._router.hides(one, other) or self._router.hides(other, one)

    def _tell_subscribers(self, event: NodeEvent, content: bytes, told: set[str]) -> None:
        """Tell those who subscribed and have not been told by their interest (XEP-0163 s4.3.2)."""
        notice = self._notice(event.host, event.config, content)
        for jid in event.subscribers:
            if str(jid) not in told:
                self._router.pass_on(notice.to_recipient(jid))

    def _tell_of_subscription(self, event: NodeEvent) -> None:
        found = event.subscription
        if found is None:
            return
        if event.kind is EventKind.SUBSCRIPTION:
            content = events.subscription(event.node, found.jid, found.state.value)
            self._router.route(self._notice(event.host, event.config, content).to_recipient(found.jid))
            return
        asked = events.approval(event.node, found.jid)
        form = Notice(event.host, "normal", next(self._ids), asked, lasting=True)
        for owner in event.subscribers:
            self._router.route(form.to_recipient(owner))

    # --- newest items -----------------------------------------------------------------------------------------------

    def _arrived(self, session: Session, interests: Interests) -> None:
        self._begin(self._give_newest(session, interests))

    def _arrived_elsewhere(self, account: Account, client: Elsewhere, interests: Interests) -> None:
        self._begin(self._give_newest_elsewhere(account, client.jid, interests))

    def _granted(self, account: Account, jid: JID) -> None:
        """A contact may see the account from now on: a new subscriber of all its nodes (XEP-0163 s4.3.4)."""
        if not self._router.is_local(jid.domain):
            self._audience.granted(account, jid.bare)
            return
        for session in self._sessions.of(jid.bare):
            interests = self._audience.interests(session)
            if interests:
                self._begin(self._give(session, account, interests))

    async def _give_newest(self, session: Session, interests: Interests) -> None:
        """The newest items of the account itself and of its contacts here (XEP-0163 s4.3.4)."""
        await self._give(session, session.account, interests)
        roster = await self._contacts.roster(session.account)
        contacts = {jid.bare: jid for jid in roster.subscriptions if self._router.is_local(jid.domain)}
        having = await self._pubsub.hosts.with_nodes(contacts)
        for jid in [contacts[bare] for bare in contacts if bare in having]:
            host = self._pubsub.hosts.peek(jid.bare)
            if host is not None and interests.isdisjoint(host.nodes):
                continue
            owner = await self._accounts.find(jid.bare)
            if owner is not None and owner.state is not AccountState.DELETED:
                await self._give(session, owner, interests)

    async def _give(self, session: Session, owner: Account, interests: Interests) -> None:
        if self._is_blocked(owner.jid, session.jid):
            return
        for node, item in await self._pubsub.last_items(owner, session.account.jid, interests):
            if session.presence is None:
                return
            session.send(self._newest(owner, node, item).to_recipient(session.jid))

    async def _give_newest_elsewhere(self, account: Account, client: JID, interests: Interests) -> None:
        if not (await self._contacts.roster(account)).shares_with(client.bare):
            return
        for node, item in await self._pubsub.last_items(account, client, interests):
            self._router.pass_on(self._newest(account, node, item).to_recipient(client))

    def _newest(self, owner: Account, node: Node, item: Item) -> Notice:
        content = events.items(node.name, [_item(owner.jid, node.config, item)])
        return self._notice(owner.jid, node.config, content, events.delayed(item.published_at))

    def _notice(self, host: JID, config: NodeConfig, *content: bytes) -> Notice:
        return Notice(host, config.notification_type, next(self._ids), *content)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            log.warning("notifications were dropped, too many wait")
            return
        task = asyncio.get_running_loop().create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        async with self._given:
            try:
                await work
            except Exception:
                log.exception("notifying failed")


def _content(event: NodeEvent) -> bytes:
    """The ``<event/>``."""
    config, kind, ids = event.config, event.kind, [item.id for item in event.items]
    if kind is EventKind.PUBLISH or kind is EventKind.LAST:
        return events.items(event.node, [_item(event.host, config, item) for item in event.items])
    if kind is EventKind.RETRACT:
        return events.retracted(event.node, ids)
    if kind is EventKind.PURGE:
        return events.purged(event.node)
    if kind is EventKind.DELETE:
        return events.deleted(event.node, event.redirect)
    return events.configured(event.node)


def _item(host: JID, config: NodeConfig, item: Item) -> EventItem:
    publisher = None if item.publisher.bare == host.bare else item.publisher
    return EventItem(item.id, publisher, item.payload if config.deliver_payloads else b"")


def _reply_to(event: NodeEvent) -> bytes:
    """Whom to answer, where the node's configuration says so; for those who see the account's presence only."""
    if event.kind is not EventKind.PUBLISH or event.config.item_reply is None:
        return b""
    is_owner = event.config.item_reply is ItemReply.OWNER or event.publisher is None
    return events.reply_to(event.host if is_owner else event.publisher or event.host)


def _judge(event: NodeEvent, roster: Roster) -> Callable[[JID], bool]:
    """Whether a contact that sees the account's presence may read the node."""
    config, held = event.config, event.affiliations
    if config.access_model in _WIDE and not held:
        return lambda _jid: True
    return lambda jid: access.may_read(config, access.affiliation(event.host, held, jid), jid, roster)
