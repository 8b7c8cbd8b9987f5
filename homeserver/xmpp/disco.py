"""Service discovery (XEP-0030): what a domain or an account is, can do and has."""

from homeserver.domain.errors import BadRequest, NotFound, ServiceUnavailable
from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import verification_string
from homeserver.protocol.xml import Element, element
from homeserver.services.presence import Presence
from homeserver.xmpp import caps
from homeserver.xmpp.catalogue import Catalogue, NodeAnswer
from homeserver.xmpp.feature import EVERYONE, Addressee, IqRequest, feature, on_iq

MAX_NODE = 3071


@feature(xep=30, version="2.5.0", disco=(ns.DISCO_INFO, ns.DISCO_ITEMS), account_disco=(ns.DISCO_INFO, ns.DISCO_ITEMS))
class Disco:
    """Answers from the catalogue. An account's answers are for itself and its subscribers; others are told the same as
    for an account that does not exist (XEP-0030 s8)."""

    catalogue: Catalogue
    presence: Presence

    @on_iq("get", ns.DISCO_INFO, "query", to=EVERYONE)
    async def info(self, request: IqRequest) -> Element | None:
        """XEP-0030 s3."""
        await self._admit(request)
        node = _node(request)
        if request.addressee is not Addressee.DOMAIN:
            return await self._of_node(request, node, self.catalogue.info_nodes) or self.catalogue.account_info()
        found = self.catalogue.domain_info(_domain(request))
        if node and node == f"{caps.NODE}#{verification_string(found)}":
            found.set("node", node)
            return found
        return await self._of_node(request, node, self.catalogue.info_nodes) or found

    @on_iq("get", ns.DISCO_ITEMS, "query", to=EVERYONE)
    async def items(self, request: IqRequest) -> Element | None:
        """XEP-0030 s4."""
        await self._admit(request)
        answer = await self._of_node(request, _node(request), self.catalogue.item_nodes)
        if answer is not None:
            return answer
        if request.addressee is Addressee.DOMAIN:
            return self.catalogue.domain_items(_domain(request))
        found = element(ns.DISCO_ITEMS, "query")
        for source in self.catalogue.account_items:
            found.extend(await source(request))
        return found

    async def _admit(self, request: IqRequest) -> None:
        if request.addressee is Addressee.ACCOUNT and (
            request.account is None or not await self.presence.may_see(request.account, request.sender)
        ):
            raise ServiceUnavailable

    @staticmethod
    async def _of_node(request: IqRequest, node: str, answers: list[NodeAnswer]) -> Element | None:
        """The answer for a node; None where no node was named. Raises `NotFound` for one that nobody knows."""
        if not node:
            return None
        for answer in answers:
            found = await answer(request, node)
            if found is not None:
                found.set("node", node)
                return found
        raise NotFound("no such node")


def _node(request: IqRequest) -> str:
    node = request.payload.get("node", "")
    if len(node) > MAX_NODE:
        raise BadRequest("the name of the node is too long")
    return node


def _domain(request: IqRequest) -> str:
    to = request.stanza.to
    return request.sender.domain if to is None else to.domain
