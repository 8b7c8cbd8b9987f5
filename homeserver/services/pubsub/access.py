"""Who may do what with a node: the one place that judges (XEP-0060 s4.1, s4.5, s6.1.3)."""

from collections.abc import Mapping
from typing import Final

from homeserver.domain.errors import DomainError
from homeserver.domain.pubsub import (
    AccessModel,
    Affiliation,
    NodeConfig,
    PublishModel,
    Subscription,
    SubscriptionState,
)
from homeserver.domain.rosters import Roster
from homeserver.protocol.jid import JID
from homeserver.services.pubsub import refusals

_READERS: Final = (Affiliation.OWNER, Affiliation.PUBLISHER, Affiliation.MEMBER)
_WRITERS: Final = (Affiliation.OWNER, Affiliation.PUBLISHER, Affiliation.PUBLISH_ONLY)


def affiliation(host: JID, affiliations: Mapping[str, Affiliation], asker: JID) -> Affiliation:
    """The relation of ``asker`` to a node; an account owns all its nodes."""
    if asker.bare == host.bare:
        return Affiliation.OWNER
    return affiliations.get(asker.bare, Affiliation.NONE)


def is_subscribed(subscriptions: Mapping[str, Subscription], asker: JID) -> bool:
    """Whether ``asker``, with or without its resource, has an approved subscription."""
    for name in {asker.bare, str(asker)}:
        found = subscriptions.get(name)
        if found is not None and found.state is SubscriptionState.SUBSCRIBED:
            return True
    return False


def refusal_to_read(
    config: NodeConfig, held: Affiliation, asker: JID, roster: Roster | None, approved: bool = False
) -> DomainError | None:
    """Why ``asker`` may neither subscribe nor read, or None where it may.

    ``roster`` is that of the account the node belongs to, None for a node of the service. For `AccessModel.AUTHORIZE`
    only an approved subscription (``approved``) lets read.
    """
    if held in _READERS:
        return None
    if held is not Affiliation.NONE:
        return refusals.forbidden()
    model = config.access_model
    if model is AccessModel.OPEN:
        return None
    if model is AccessModel.AUTHORIZE:
        return None if approved else refusals.not_subscribed()
    if model is AccessModel.WHITELIST:
        return refusals.closed_node()
    contact = roster.get(asker.bare) if roster is not None else None
    shares = contact is not None and contact.state.shares
    if model is AccessModel.PRESENCE:
        return None if shares else refusals.presence_subscription_required()
    if shares and contact is not None and not set(config.roster_groups).isdisjoint(contact.groups):
        return None
    return refusals.not_in_roster_group()


def may_read(config: NodeConfig, held: Affiliation, asker: JID, roster: Roster | None, approved: bool = False) -> bool:
    """Whether ``asker`` may read the node and be told of its events; arguments as for `refusal_to_read`."""
    return refusal_to_read(config, held, asker, roster, approved) is None


def is_visible(
    config: NodeConfig, held: Affiliation, asker: JID, roster: Roster | None, subscriptions: Mapping[str, Subscription]
) -> bool:
    """Whether ``asker`` may know that there is such a node: because it may read it, or ask to (XEP-0060 s5.2)."""
    if held is Affiliation.PUBLISH_ONLY or (
        config.access_model is AccessModel.AUTHORIZE and held is not Affiliation.OUTCAST
    ):
        return True
    return may_read(config, held, asker, roster, is_subscribed(subscriptions, asker))


def may_publish(config: NodeConfig, held: Affiliation, approved: bool) -> bool:
    """Whether someone with that affiliation may publish (``pubsub#publish_model``)."""
    if held in _WRITERS:
        return True
    if held is Affiliation.OUTCAST:
        return False
    model = config.publish_model
    return model is PublishModel.OPEN or (model is PublishModel.SUBSCRIBERS and approved)
