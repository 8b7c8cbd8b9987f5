"""What service discovery says (XEP-0030), gathered once at the start.

Features come from the declarations of what was built; identities, items, forms (XEP-0128) and nodes are added by the
features that own them.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element
from homeserver.xmpp.feature import Declaration, IqRequest


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Who an address says it is (XEP-0030 s3.1)."""

    category: str
    type: str
    name: str = ""

    def to_element(self) -> Element:
        attributes = {"category": self.category, "type": self.type}
        if self.name:
            attributes["name"] = self.name
        return element(ns.DISCO_INFO, "identity", attributes)


NodeAnswer = Callable[[IqRequest, str], Awaitable[Element | None]]
"""Given the request and its node, the whole ``<query/>``, or None where the node is not its own. May refuse."""


class Catalogue:
    """Identities, features, forms, items and nodes of every domain and every account. ``name`` is the software's."""

    def __init__(self, name: str) -> None:
        self._domain_identities = [Identity("server", "im", name)]
        self._account_identities = [Identity("account", "registered")]
        self._domain_features = {ns.DISCO_INFO, ns.DISCO_ITEMS}
        self._account_features = {ns.DISCO_INFO, ns.DISCO_ITEMS}
        self._items: list[tuple[str, str, str]] = []
        self._forms: list[Callable[[str], Element | None]] = []
        self.account_items: list[Callable[[IqRequest], Awaitable[Iterable[Element]]]] = []
        """Each gives items of the addressed account that the asker may see, as ``<item/>`` elements."""
        self.info_nodes: list[NodeAnswer] = []
        self.item_nodes: list[NodeAnswer] = []

    def declare(self, declarations: Iterable[Declaration]) -> None:
        """Take over what the features that were built declare."""
        for declaration in declarations:
            self._domain_features.update(declaration.disco)
            self._account_features.update(declaration.account_disco)

    def add_domain_identity(self, identity: Identity) -> None:
        """Every domain served here is also this."""
        self._domain_identities.append(identity)

    def add_account_identity(self, identity: Identity) -> None:
        """Every account is also this, for example pubsub/pep (XEP-0163 s6.1)."""
        self._account_identities.append(identity)

    def add_item(self, domain: str, jid: str, name: str) -> None:
        """A service that ``domain`` lists, such as its groups (XEP-0030 s4.1)."""
        self._items.append((domain, jid, name))

    def add_form(self, form: Callable[[str], Element | None]) -> None:
        """A data form in the domain's answer (XEP-0128): made per domain, None where it has none."""
        self._forms.append(form)

    def domain_info(self, domain: str) -> Element:
        """The disco#info of a domain."""
        forms = (form(domain) for form in self._forms)
        return info(self._domain_identities, self._domain_features, (form for form in forms if form is not None))

    def account_info(self) -> Element:
        """The disco#info of an account's bare JID."""
        return info(self._account_identities, self._account_features, ())

    def domain_items(self, domain: str) -> Element:
        """The disco#items of a domain."""
        listed = (
            element(ns.DISCO_ITEMS, "item", {"jid": jid, "name": name})
            for owner, jid, name in self._items
            if owner == domain
        )
        return element(ns.DISCO_ITEMS, "query", None, *listed)


def info(identities: Iterable[Identity], features: Iterable[str], forms: Iterable[Element]) -> Element:
    """A disco#info answer (XEP-0030 s3.1, XEP-0128)."""
    query = element(ns.DISCO_INFO, "query")
    query.extend(identity.to_element() for identity in sorted(identities))
    query.extend(element(ns.DISCO_INFO, "feature", {"var": name}) for name in sorted(features))
    query.extend(forms)
    return query
