"""Notifications: from publish-subscribe and presence to those who want to know."""

from contextlib import AsyncExitStack

from homeserver.services.accounts import Accounts
from homeserver.services.audience import Audience
from homeserver.services.clock import SystemClock
from homeserver.services.contacts import Contacts
from homeserver.services.enquiries import Enquiries
from homeserver.services.entity_caps import EntityCaps
from homeserver.services.notifications import Notifications
from homeserver.services.presence import Presence
from homeserver.services.pubsub.service import PubSub
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.storage.database import Database


async def build_audience(
    presence: Presence,
    contacts: Contacts,
    router: Router,
    enquiries: Enquiries,
    database: Database,
    clock: SystemClock,
    stack: AsyncExitStack,
) -> Audience:
    """Who is there and wants to be notified of what."""
    caps = EntityCaps(enquiries, database, clock)
    await caps.load()
    stack.push_async_callback(caps.close)
    audience = Audience(presence, contacts, router, caps)
    stack.push_async_callback(audience.settle)
    return audience


def notify(
    pubsub: PubSub,
    audience: Audience,
    contacts: Contacts,
    accounts: Accounts,
    sessions: Sessions,
    router: Router,
    stack: AsyncExitStack,
) -> None:
    """Tell the audience what happens to nodes."""
    notifications = Notifications(pubsub, audience, contacts, accounts, sessions, router)
    stack.push_async_callback(notifications.settle)
