"""Explicit subscriptions: asked for, approved, ended (XEP-0060 s5.6, s6.1, s6.2, s8.8)."""

from collections.abc import Mapping
from dataclasses import replace

from homeserver.domain.errors import NotAcceptable
from homeserver.domain.pubsub import (
    AccessModel,
    Affiliation,
    EventKind,
    NodeEvent,
    SendLast,
    Subscription,
    SubscriptionState,
)
from homeserver.protocol.jid import JID
from homeserver.services.pubsub import access, refusals
from homeserver.services.pubsub.hosts import Host, Hosts
from homeserver.services.pubsub.nodes import Nodes
from homeserver.services.pubsub.publishing import Publishing
from homeserver.storage import pubsub as storage
from homeserver.storage.database import Database
from homeserver.storage.pubsub_shapes import StoredNode


class Subscriptions:
    """One subscription for each address, with or without a resource; they have no options."""

    def __init__(self, hosts: Hosts, nodes: Nodes, publishing: Publishing, database: Database) -> None:
        self._hosts = hosts
        self._nodes = nodes
        self._publishing = publishing
        self._database = database

    async def subscribe(self, jid: JID, name: str, asker: JID, who: JID) -> Subscription:
        """Subscribe ``who``, an address of ``asker``. At a node that asks its owners the subscription is pending first.

        Raises what `refusals` has for XEP-0060 s6.1.3.
        """
        if who.bare != asker.bare:
            raise refusals.invalid_jid()
        async with self._hosts.editing(jid) as host:
            stored = host.find(name)
            known = stored.subscriptions.get(str(who))
            state = await self._permitted(host, stored, asker)
            if known is not None:
                if known.state is SubscriptionState.PENDING and state is SubscriptionState.PENDING:
                    raise refusals.pending_subscription()
                state = SubscriptionState.SUBSCRIBED
            elif self._nodes.is_crowded(host, stored, asker):
                raise refusals.too_many_subscriptions()
            subscription = Subscription(who, state)
            if subscription != known:
                await self._database.write(storage.subscribe, stored.node.id, [subscription])
                stored.subscriptions[str(who)] = subscription
            if state is SubscriptionState.PENDING:
                self._tell(host, stored, EventKind.REQUEST, subscription, _owners(host, stored))
            else:
                await self._send_last(host, stored, who)
            return subscription

    async def _permitted(self, host: Host, stored: StoredNode, asker: JID) -> SubscriptionState:
        """What a subscription of ``asker`` begins as. Raises where it may not subscribe."""
        held = host.held(stored, asker)
        if stored.node.config.access_model is AccessModel.AUTHORIZE and held is Affiliation.NONE:
            approved = access.is_subscribed(stored.subscriptions, asker)
            return SubscriptionState.SUBSCRIBED if approved else SubscriptionState.PENDING
        await self._hosts.admit(host, stored, asker)
        return SubscriptionState.SUBSCRIBED

    async def unsubscribe(self, jid: JID, name: str, asker: JID, who: JID) -> None:
        """End a subscription. Raises `Forbidden` for somebody else's, `UnexpectedRequest` where there is none."""
        if who.bare != asker.bare:
            raise refusals.forbidden()
        async with self._hosts.editing(jid) as host:
            stored = host.find(name)
            if str(who) not in stored.subscriptions:
                raise refusals.no_such_subscriber()
            await self._database.write(storage.subscribe, stored.node.id, [Subscription(who, SubscriptionState.NONE)])
            del stored.subscriptions[str(who)]

    async def own(self, jid: JID, asker: JID, name: str = "") -> list[tuple[str, Subscription]]:
        """All subscriptions of ``asker`` at a host, or at one node of it, with the names of the nodes."""
        host = await self._hosts.host(jid)
        chosen = [host.find(name)] if name else list(host.nodes.values())
        return [
            (stored.node.name, subscription)
            for stored in chosen
            for subscription in stored.subscriptions.values()
            if subscription.jid.bare == asker.bare
        ]

    async def of_node(self, jid: JID, name: str, asker: JID) -> list[Subscription]:
        """All subscriptions to a node, for its owner; those that wait for approval are not among them (s8.8.1)."""
        stored = (await self._hosts.host(jid)).owned(name, asker)
        return [one for one in stored.subscriptions.values() if one.state is SubscriptionState.SUBSCRIBED]

    async def change(self, jid: JID, name: str, asker: JID, changes: Mapping[JID, SubscriptionState]) -> None:
        """An owner approves, adds and ends subscriptions (XEP-0060 s8.8.2); who is concerned is told."""
        async with self._hosts.editing(jid) as host:
            stored = host.owned(name, asker)
            wanted = []
            for who, state in changes.items():
                known = stored.subscriptions.get(str(who))
                if (known.state if known else SubscriptionState.NONE) is not state:
                    wanted.append(Subscription(who, state))
            added = sum(str(one.jid) not in stored.subscriptions for one in wanted)
            if added and not self._nodes.has_room(stored, added):
                raise NotAcceptable("too many subscriptions")
            await self._database.write(storage.subscribe, stored.node.id, wanted)
            for one in wanted:
                if one.state is SubscriptionState.NONE:
                    del stored.subscriptions[str(one.jid)]
                else:
                    stored.subscriptions[str(one.jid)] = one
            for one in wanted:
                self._tell(host, stored, EventKind.SUBSCRIPTION, one, ())
                if one.state is SubscriptionState.SUBSCRIBED:
                    await self._send_last(host, stored, one.jid)

    async def decide(self, jid: JID, name: str, asker: JID, who: JID, allow: bool) -> None:
        """An owner's answer to a request (XEP-0060 s8.6). One that is not pending any more is left as it is."""
        stored = (await self._hosts.host(jid)).owned(name, asker)
        known = stored.subscriptions.get(str(who))
        if known is not None and known.state is SubscriptionState.PENDING:
            state = SubscriptionState.SUBSCRIBED if allow else SubscriptionState.NONE
            await self.change(jid, name, asker, {who: state})

    async def _send_last(self, host: Host, stored: StoredNode, who: JID) -> None:
        """XEP-0060 s6.1.7."""
        config = stored.node.config
        if config.send_last is SendLast.NEVER or not config.deliver_notifications:
            return
        if who not in await self._hosts.audience(host, stored):
            return
        item = await self._publishing.last(stored)
        if item is not None:
            event = NodeEvent(EventKind.LAST, host.jid, stored.node.name, config, (item,), item.publisher, (who,))
            self._hosts.tell(replace(event, affiliations=dict(stored.affiliations)))

    def _tell(
        self, host: Host, stored: StoredNode, kind: EventKind, subscription: Subscription, told: tuple[JID, ...]
    ) -> None:
        self._hosts.tell(
            NodeEvent(
                kind,
                host.jid,
                stored.node.name,
                stored.node.config,
                subscribers=told,
                affiliations=dict(stored.affiliations),
                subscription=subscription,
            )
        )


def _owners(host: Host, stored: StoredNode) -> tuple[JID, ...]:
    if host.account is not None:
        return (host.jid,)
    return tuple(JID.parse(who) for who, held in stored.affiliations.items() if held is Affiliation.OWNER)
