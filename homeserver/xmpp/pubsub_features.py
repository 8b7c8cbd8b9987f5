"""What publish-subscribe can do, in the words of XEP-0060 s10."""

from typing import Final

from homeserver.protocol import namespaces as ns

_EVERYWHERE: Final = (
    "access-authorize",
    "access-open",
    "access-whitelist",
    "auto-create",
    "config-node",
    "config-node-max",
    "create-and-configure",
    "create-nodes",
    "delete-items",
    "delete-nodes",
    "instant-nodes",
    "item-ids",
    "manage-subscriptions",
    "member-affiliation",
    "meta-data",
    "modify-affiliations",
    "multi-items",
    "outcast-affiliation",
    "persistent-items",
    "publish",
    "publish-only-affiliation",
    "publish-options",
    "publisher-affiliation",
    "purge-nodes",
    "retract-items",
    "retrieve-affiliations",
    "retrieve-default",
    "retrieve-items",
    "retrieve-subscriptions",
    "rsm",
    "subscribe",
    "subscription-notifications",
)
_OF_ACCOUNTS: Final = (
    "access-presence",
    "access-roster",
    "auto-subscribe",
    "filtered-notifications",
    "last-published",
    "presence-notifications",
    "presence-subscribe",
)


def _spelled(*names: str) -> tuple[str, ...]:
    return (ns.PUBSUB, *(f"{ns.PUBSUB}#{name}" for name in sorted(names)))


SERVICE_FEATURES: Final = (*_spelled(*_EVERYWHERE), ns.RESULT_SET)
ACCOUNT_FEATURES: Final = _spelled(*_EVERYWHERE, *_OF_ACCOUNTS)
