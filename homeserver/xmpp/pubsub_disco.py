"""Nodes in service discovery: of accounts, as everything else about them, and of the service (XEP-0060 s5, XEP-0163 s6)."""

from collections.abc import Iterable

from homeserver.domain.errors import NotFound
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import Element, element
from homeserver.services.pubsub.service import PubSub
from homeserver.xmpp import catalogue, pubsub_forms
from homeserver.xmpp.catalogue import Catalogue, Identity
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq
from homeserver.xmpp.pubsub_addresses import host_of
from homeserver.xmpp.pubsub_features import SERVICE_FEATURES

MAX_LISTED = 1000


@feature(xep=163, version="1.2.2")
class PubSubDisco:
    """An account is a publish-subscribe service of its own; the service of a domain is listed by the domain."""

    service: PubSub
    catalogue: Catalogue

    def __post_init__(self) -> None:
        self.catalogue.add_account_identity(Identity("pubsub", "pep"))
        self.catalogue.account_items.append(self._nodes)
        self.catalogue.info_nodes.append(self._node_info)
        self.catalogue.item_nodes.append(self._node_items)

    @on_iq("get", ns.DISCO_INFO, "query", to=Addressee.PUBSUB)
    async def info(self, request: IqRequest) -> Element | None:
        """What the service is, or one of its nodes (XEP-0060 s5.1, s5.3)."""
        node = request.payload.get("node", "")
        if node:
            return _named(await self._info(request, node), node)
        identity = Identity("pubsub", "service", "Publish-subscribe")
        return catalogue.info((identity,), (ns.DISCO_INFO, ns.DISCO_ITEMS, *SERVICE_FEATURES), ())

    @on_iq("get", ns.DISCO_ITEMS, "query", to=Addressee.PUBSUB)
    async def items(self, request: IqRequest) -> Element | None:
        """The nodes of the service, or the items of one (XEP-0060 s5.2, s5.5)."""
        node = request.payload.get("node", "")
        if node:
            return _named(await self._items(request, node), node)
        return element(ns.DISCO_ITEMS, "query", None, *await self._nodes(request))

    async def _nodes(self, request: IqRequest) -> Iterable[Element]:
        host = host_of(request)
        found = await self.service.owners.visible(host, request.sender)
        return [_listed(host, node.name, node.config.title) for node in found[:MAX_LISTED]]

    async def _node_info(self, request: IqRequest, node: str) -> Element | None:
        if request.account is None:
            return None
        try:
            return await self._info(request, node)
        except NotFound:
            return None

    async def _node_items(self, request: IqRequest, node: str) -> Element | None:
        if request.account is None:
            return None
        try:
            return await self._items(request, node)
        except NotFound:
            return None

    async def _info(self, request: IqRequest, node: str) -> Element:
        host = host_of(request)
        stored = await self.service.owners.describe(host, node, request.sender)
        affiliations = await self.service.owners.standing(host, node)
        form = pubsub_forms.meta_data(stored, affiliations)
        return catalogue.info((Identity("pubsub", "leaf"),), (ns.PUBSUB,), (form,))

    async def _items(self, request: IqRequest, node: str) -> Element:
        host = host_of(request)
        ids = await self.service.publishing.item_ids(host, node, request.sender, MAX_LISTED)
        found = (element(ns.DISCO_ITEMS, "item", {"jid": host.bare, "name": id_}) for id_ in ids)
        return element(ns.DISCO_ITEMS, "query", None, *found)


def _listed(host: JID, node: str, title: str) -> Element:
    attributes = {"jid": host.bare, "node": node}
    if title:
        attributes["name"] = title
    return element(ns.DISCO_ITEMS, "item", attributes)


def _named(found: Element, node: str) -> Element:
    found.set("node", node)
    return found
