"""Publish-subscribe for owners: configuration, affiliations, subscriptions, the end of a node (XEP-0060 s8)."""

from typing import Final

from homeserver.domain.errors import BadRequest, NotAcceptable
from homeserver.domain.pubsub import Affiliation, SubscriptionState
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import Element, child, children, element
from homeserver.services.pubsub import refusals
from homeserver.services.pubsub.service import PubSub
from homeserver.xmpp import pubsub_forms
from homeserver.xmpp.feature import IqRequest, feature, on_iq
from homeserver.xmpp.pubsub_addresses import ADDRESSEES, Verb, carry_out, host_of, jid_of

MAX_CHANGES: Final = 500
_MAX_URI: Final = 3071


@feature(xep=60, version="1.30.0")
class PubSubOwner:
    """Answers requests in the namespace of owners."""

    service: PubSub

    def __post_init__(self) -> None:
        self._gets: dict[str, Verb] = {
            "configure": self._configuration,
            "default": self._default,
            "affiliations": self._affiliations,
            "subscriptions": self._subscriptions,
        }
        self._sets: dict[str, Verb] = {
            "configure": self._configure,
            "affiliations": self._affiliate,
            "subscriptions": self._subscribe,
            "delete": self._delete,
            "purge": self._purge,
        }

    @on_iq("get", ns.PUBSUB_OWNER, "pubsub", to=ADDRESSEES)
    async def read(self, request: IqRequest) -> Element | None:
        """XEP-0060 s8.2, s8.3, s8.8.1, s8.9.1."""
        return await carry_out(request, self._gets, {})

    @on_iq("set", ns.PUBSUB_OWNER, "pubsub", to=ADDRESSEES)
    async def change(self, request: IqRequest) -> Element | None:
        """XEP-0060 s8.2.4, s8.4, s8.5, s8.8.2, s8.9.2."""
        return await carry_out(request, self._sets, {})

    async def _configuration(self, request: IqRequest, asked: Element) -> Element | None:
        node = _node(asked)
        config = await self.service.owners.config(host_of(request), node, request.sender)
        form = pubsub_forms.configuration(config, request.account is not None)
        return _pubsub(element(ns.PUBSUB_OWNER, "configure", {"node": node}, form))

    async def _default(self, request: IqRequest, _asked: Element) -> Element | None:
        config = await self.service.owners.default(host_of(request))
        form = pubsub_forms.configuration(config, request.account is not None)
        return _pubsub(element(ns.PUBSUB_OWNER, "default", None, form))

    async def _configure(self, request: IqRequest, asked: Element) -> Element | None:
        form = forms.find(asked)
        if form is None:
            raise BadRequest("there is no form")
        change = pubsub_forms.change(form)
        await self.service.configure(host_of(request), _node(asked), request.sender, change)
        return None

    async def _affiliations(self, request: IqRequest, asked: Element) -> Element | None:
        node = _node(asked)
        listed = element(ns.PUBSUB_OWNER, "affiliations", {"node": node})
        found = await self.service.owners.affiliations(host_of(request), node, request.sender)
        for who, held in sorted(found.items()):
            listed.append(element(ns.PUBSUB_OWNER, "affiliation", {"jid": who, "affiliation": held.value}))
        return _pubsub(listed)

    async def _affiliate(self, request: IqRequest, asked: Element) -> Element | None:
        changes: dict[JID, Affiliation] = {}
        for one in _bounded(asked, "affiliation"):
            wanted = one.get("affiliation")
            if wanted is None:
                continue  # XEP-0060 s8.9.2.1: then it is not changed
            try:
                changes[jid_of(one.get("jid")).to_bare()] = Affiliation(wanted)
            except ValueError as error:
                raise NotAcceptable("no such affiliation") from error
        await self.service.owners.affiliate(host_of(request), _node(asked), request.sender, changes)
        return None

    async def _subscriptions(self, request: IqRequest, asked: Element) -> Element | None:
        node = _node(asked)
        listed = element(ns.PUBSUB_OWNER, "subscriptions", {"node": node})
        for one in await self.service.subscriptions.of_node(host_of(request), node, request.sender):
            attributes = {"jid": str(one.jid), "subscription": one.state.value}
            listed.append(element(ns.PUBSUB_OWNER, "subscription", attributes))
        return _pubsub(listed)

    async def _subscribe(self, request: IqRequest, asked: Element) -> Element | None:
        changes: dict[JID, SubscriptionState] = {}
        for one in _bounded(asked, "subscription"):
            wanted = one.get("subscription")
            if wanted is None:
                continue
            try:
                changes[jid_of(one.get("jid"))] = SubscriptionState(wanted)
            except ValueError as error:
                raise NotAcceptable("no such state") from error
        await self.service.subscriptions.change(host_of(request), _node(asked), request.sender, changes)
        return None

    async def _delete(self, request: IqRequest, asked: Element) -> Element | None:
        redirect = child(asked, ns.PUBSUB_OWNER, "redirect")
        uri = "" if redirect is None else redirect.get("uri", "")
        if len(uri) > _MAX_URI:
            raise BadRequest("the address of the other node is too long")
        await self.service.delete(host_of(request), _node(asked), request.sender, uri)
        return None

    async def _purge(self, request: IqRequest, asked: Element) -> Element | None:
        await self.service.purge(host_of(request), _node(asked), request.sender)
        return None


def _bounded(asked: Element, name: str) -> list[Element]:
    found = list(children(asked, ns.PUBSUB_OWNER, name))
    if len(found) > MAX_CHANGES:
        raise NotAcceptable(f"at most {MAX_CHANGES} changes at a time")
    return found


def _node(asked: Element) -> str:
    node = asked.get("node", "")
    if not node:
        raise refusals.nodeid_required()
    return node


def _pubsub(*content: Element) -> Element:
    return element(ns.PUBSUB_OWNER, "pubsub", None, *content)
