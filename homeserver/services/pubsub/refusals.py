"""The refusals of XEP-0060 with the application conditions that its error tables name (s11, s16.2)."""

from homeserver.domain import errors
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element


def _condition(name: str) -> Element:
    return element(ns.PUBSUB_ERRORS, name)


def forbidden() -> errors.DomainError:
    """Not privileged, or an outcast."""
    return errors.Forbidden()


def presence_subscription_required() -> errors.DomainError:
    """XEP-0060 s6.1.3.2, s6.5.9.6."""
    return errors.NotAuthorized(application=_condition("presence-subscription-required"))


def not_in_roster_group() -> errors.DomainError:
    """XEP-0060 s6.1.3.3, s6.5.9.7."""
    return errors.NotAuthorized(application=_condition("not-in-roster-group"))


def closed_node() -> errors.DomainError:
    """XEP-0060 s6.1.3.4, s6.5.9.8."""
    return errors.NotAllowed(application=_condition("closed-node"))


def not_subscribed() -> errors.DomainError:
    """Reading without a subscription where one is needed (XEP-0060 s6.5.9.3)."""
    return errors.NotAuthorized(application=_condition("not-subscribed"))


def no_such_subscriber() -> errors.DomainError:
    """XEP-0060 s6.2.3.2."""
    return errors.UnexpectedRequest(application=_condition("not-subscribed"))


def pending_subscription() -> errors.DomainError:
    """XEP-0060 s6.1.3.7."""
    return errors.NotAuthorized(application=_condition("pending-subscription"))


def too_many_subscriptions() -> errors.DomainError:
    """XEP-0060 s6.1.3.9."""
    return errors.TooMany(application=_condition("too-many-subscriptions"))


def invalid_jid() -> errors.DomainError:
    """XEP-0060 s6.1.3.1: nobody subscribes somebody else."""
    return errors.BadRequest(application=_condition("invalid-jid"))


def nodeid_required() -> errors.DomainError:
    """XEP-0060 s7.2.3.3, s8.2.3.3."""
    return errors.BadRequest(application=_condition("nodeid-required"))


def item_required() -> errors.DomainError:
    """XEP-0060 s7.1.3.7, s7.2.3.4."""
    return errors.BadRequest(application=_condition("item-required"))


def payload_required() -> errors.DomainError:
    """XEP-0060 s7.1.3.7."""
    return errors.BadRequest(application=_condition("payload-required"))


def invalid_payload() -> errors.DomainError:
    """XEP-0060 s7.1.3.6: more than one element."""
    return errors.BadRequest(application=_condition("invalid-payload"))


def payload_too_big(text: str) -> errors.DomainError:
    """XEP-0060 s7.1.3.5."""
    return errors.NotAcceptable(text, application=_condition("payload-too-big"))


def item_forbidden() -> errors.DomainError:
    """XEP-0060 s7.1.3.7: the node takes no items of its own."""
    return errors.BadRequest(application=_condition("item-forbidden"))


def precondition_not_met() -> errors.DomainError:
    """XEP-0060 s7.1.5: the publish-options are not the node's configuration."""
    return errors.Conflict(application=_condition("precondition-not-met"))


def max_nodes_exceeded() -> errors.DomainError:
    """XEP-0060 s8.1.1: a quota."""
    return errors.ResourceConstraint("there are too many nodes", application=_condition("max-nodes-exceeded"))


def max_items_exceeded(text: str) -> errors.DomainError:
    """More is kept than one may keep."""
    return errors.ResourceConstraint(text, application=_condition("max-items-exceeded"))


def unsupported_access_model() -> errors.DomainError:
    """XEP-0060 s8.1.3."""
    return errors.NotAcceptable(application=_condition("unsupported-access-model"))


def unsupported(feature: str) -> errors.DomainError:
    """Something of XEP-0060 that this server, or this node, does not do."""
    found = element(ns.PUBSUB_ERRORS, "unsupported", {"feature": feature})
    return errors.FeatureNotImplemented(application=found)
