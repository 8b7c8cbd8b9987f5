"""Publish-subscribe for publishers and subscribers (XEP-0060 s5 to s7, s8.1), for every account (XEP-0163) and at the
service."""

from typing import Final

from homeserver.domain.errors import BadRequest
from homeserver.domain.pubsub import Item, NewItem, Subscription
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, child, children, element, parse_own, serialise
from homeserver.services.pubsub import refusals
from homeserver.services.pubsub.service import PubSub
from homeserver.storage.pubsub_shapes import ItemPage
from homeserver.xmpp import pubsub_forms
from homeserver.xmpp.feature import IqRequest, feature, on_iq
from homeserver.xmpp.pubsub_addresses import ADDRESSEES, Verb, carry_out, host_of, jid_of, number_of
from homeserver.xmpp.pubsub_features import ACCOUNT_FEATURES

MAX_IDS: Final = 1000
_UNSUPPORTED: Final = {"options": "subscription-options", "default": "retrieve-default-sub"}


@feature(xep=60, version="1.30.0", account_disco=ACCOUNT_FEATURES)
class PubSubRequests:
    """Publish, retract, read; subscribe and unsubscribe; create."""

    service: PubSub

    def __post_init__(self) -> None:
        self._gets: dict[str, Verb] = {
            "items": self._items,
            "subscriptions": self._subscriptions,
            "affiliations": self._affiliations,
        }
        self._sets: dict[str, Verb] = {
            "publish": self._publish,
            "retract": self._retract,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "create": self._create,
        }

    @on_iq("get", ns.PUBSUB, "pubsub", to=ADDRESSEES)
    async def read(self, request: IqRequest) -> Element | None:
        """XEP-0060 s5.6, s5.7, s6.5."""
        return await carry_out(request, self._gets, _UNSUPPORTED)

    @on_iq("set", ns.PUBSUB, "pubsub", to=ADDRESSEES)
    async def change(self, request: IqRequest) -> Element | None:
        """XEP-0060 s6.1, s6.2, s7, s8.1."""
        return await carry_out(request, self._sets, _UNSUPPORTED)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _items(self, request: IqRequest, asked: Element) -> Element | None:
        node = _node(asked)
        named = [one.get("id", "") for one in children(asked, ns.PUBSUB, "item")]
        if len(named) > MAX_IDS or not all(named):
            raise BadRequest(f"an item has an id, and at most {MAX_IDS} are asked for")
        page = forms.page_query(request.payload)
        limit = number_of(asked.get("max_items"))
        if page is not None and page.limit is not None:
            limit = page.limit if limit is None else min(limit, page.limit)
        if page is not None and page.index is not None:
            raise refusals.unsupported("rsm")
        found = await self.service.publishing.page(
            host_of(request),
            node,
            request.sender,
            ids=named or None,
            limit=limit,
            after=page.after if page else None,
            before=page.before if page else None,
        )
        answer = _pubsub(element(ns.PUBSUB, "items", {"node": node}, *(_item(item) for item in found.items)))
        wanted = found.total if limit is None or page is not None else min(limit, found.total)
        if page is not None or len(found.items) < wanted:
            answer.append(_page(found))
        return answer

    async def _subscriptions(self, request: IqRequest, asked: Element) -> Element | None:
        node = asked.get("node", "")
        found = await self.service.subscriptions.own(host_of(request), request.sender, node)
        listed = element(ns.PUBSUB, "subscriptions", {"node": node} if node else None)
        listed.extend(_subscription(name, one) for name, one in found)
        return _pubsub(listed)

    async def _affiliations(self, request: IqRequest, asked: Element) -> Element | None:
        node = asked.get("node", "")
        listed = element(ns.PUBSUB, "affiliations", {"node": node} if node else None)
        for name, held in await self.service.owners.own_affiliations(host_of(request), request.sender, node):
            listed.append(element(ns.PUBSUB, "affiliation", {"node": name, "affiliation": held.value}))
        return _pubsub(listed)

    # --- publishing -------------------------------------------------------------------------------------------------

    async def _publish(self, request: IqRequest, asked: Element) -> Element | None:
        node = _node(asked)
        given = list(children(asked, ns.PUBSUB, "item"))
        if len(given) > 1:
            raise BadRequest("one item is published at a time")
        options = child(request.payload, ns.PUBSUB, "publish-options")
        wanted = None if options is None else pubsub_forms.publish_options(forms.find(options))
        items = [NewItem(one.get("id") or None, _payload(one)) for one in given]
        ids = await self.service.publish(host_of(request), node, request.sender, items, wanted)
        published = (element(ns.PUBSUB, "item", {"id": id_}) for id_ in ids)
        return _pubsub(element(ns.PUBSUB, "publish", {"node": node}, *published))

    async def _retract(self, request: IqRequest, asked: Element) -> Element | None:
        ids = [one.get("id", "") for one in children(asked, ns.PUBSUB, "item")]
        if not ids or not all(ids):
            raise refusals.item_required()
        if len(ids) > MAX_IDS:
            raise BadRequest(f"at most {MAX_IDS} items at a time")
        notify = asked.get("notify") in ("1", "true")
        await self.service.retract(host_of(request), _node(asked), request.sender, ids, notify)
        return None

    async def _create(self, request: IqRequest, asked: Element) -> Element | None:
        configure = child(request.payload, ns.PUBSUB, "configure")
        if configure is not None and configure.get("node") is not None:
            raise BadRequest("the node is named once")
        change = pubsub_forms.change(None if configure is None else forms.find(configure))
        named = asked.get("node", "")
        made = await self.service.owners.create(host_of(request), named, request.sender, change)
        return None if made == named else _pubsub(element(ns.PUBSUB, "create", {"node": made}))

    # --- subscribing ------------------------------------------------------------------------------------------------

    async def _subscribe(self, request: IqRequest, asked: Element) -> Element | None:
        if child(request.payload, ns.PUBSUB, "options") is not None:
            raise refusals.unsupported("subscription-options")
        node = _node(asked)
        who = jid_of(asked.get("jid"))
        made = await self.service.subscriptions.subscribe(host_of(request), node, request.sender, who)
        return _pubsub(_subscription(node, made))

    async def _unsubscribe(self, request: IqRequest, asked: Element) -> Element | None:
        who = jid_of(asked.get("jid"))
        await self.service.subscriptions.unsubscribe(host_of(request), _node(asked), request.sender, who)
        return None


def _node(asked: Element) -> str:
    node = asked.get("node", "")
    if not node:
        raise refusals.nodeid_required()
    return node


def _payload(item: Element) -> bytes:
    if len(item) > 1:
        raise refusals.invalid_payload()
    return serialise(item[0], default="").encode() if len(item) else b""


def _pubsub(*content: Element) -> Element:
    return element(ns.PUBSUB, "pubsub", None, *content)


def _item(item: Item) -> Element:
    attributes = {"id": item.id, "publisher": item.publisher.bare}
    return element(ns.PUBSUB, "item", attributes, *([parse_own(item.payload)] if item.payload else []))


def _subscription(node: str, found: Subscription) -> Element:
    attributes = {"node": node, "jid": str(found.jid), "subscription": found.state.value}
    return element(ns.PUBSUB, "subscription", attributes)


def _page(found: ItemPage) -> Element:
    if not found.items:
        return forms.page_element(count=found.total)
    return forms.page_element(found.items[0].id, found.items[-1].id, found.total, found.index)
