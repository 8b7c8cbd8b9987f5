"""What staff uses: accounts, sessions, and what is said to everybody."""

from contextlib import AsyncExitStack
from typing import NamedTuple

from homeserver.services.accounts import Accounts
from homeserver.services.administration import Administration
from homeserver.services.announcements import Announcements
from homeserver.services.clock import SystemClock
from homeserver.services.contacts import Contacts
from homeserver.services.logins import Logins
from homeserver.services.messaging import Messaging
from homeserver.services.notices import Notices
from homeserver.services.presence import Presence
from homeserver.services.roles import Roles
from homeserver.services.sessions import Sessions
from homeserver.services.shutdown import Shutdown
from homeserver.storage.database import Database


class Office(NamedTuple):
    """The services of administration, between the functions of this package only."""

    administration: Administration
    announcements: Announcements
    notices: Notices
    shutdown: Shutdown


def build_administration(
    database: Database, accounts: Accounts, roles: Roles, sessions: Sessions, contacts: Contacts, clock: SystemClock
) -> Administration:
    """Accounts and sessions, with the times of logins."""
    logins = Logins(database, clock)
    sessions.on_bound.append(logins.bound)
    accounts.when_revoked(logins.revoked)
    return Administration(accounts, roles, sessions, contacts, logins)


async def build_office(
    administration: Administration,
    database: Database,
    accounts: Accounts,
    messaging: Messaging,
    sessions: Sessions,
    presence: Presence,
    clock: SystemClock,
    stack: AsyncExitStack,
) -> Office:
    """Announcements, notices and the stop that staff asks for."""
    notices = Notices(database, messaging, sessions, clock)
    await notices.load()
    stack.push_async_callback(notices.settle)
    presence.on_initial.append(notices.greet)
    accounts.when_revoked(notices.revoked)
    announcements = Announcements(database, messaging, sessions, clock)
    shutdown = Shutdown(announcements)
    stack.callback(shutdown.close)
    return Office(administration, announcements, notices, shutdown)
