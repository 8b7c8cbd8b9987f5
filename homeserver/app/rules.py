"""The services, each from what stands above it."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from config.settings import Settings
from federation.arrivals import Returned
from homeserver.app.administering import Office, build_administration, build_office
from homeserver.app.notifying import build_audience, notify
from homeserver.app.profiles import ProfileParts, build_profiles
from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.metrics import Metrics
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts, Ending, Revocation
from homeserver.services.admission import Admission
from homeserver.services.blocking import Blocking
from homeserver.services.broadcasts import Broadcasts
from homeserver.services.client_logins import ClientLogins
from homeserver.services.clock import SystemClock
from homeserver.services.components import Components, Terms
from homeserver.services.contacts import Contacts
from homeserver.services.contents import Contents
from homeserver.services.delivery import Delivery
from homeserver.services.departures import Departures
from homeserver.services.directory import Directory
from homeserver.services.enquiries import Enquiries
from homeserver.services.external_services import ExternalServices
from homeserver.services.files import Files
from homeserver.services.inbox import Inbox
from homeserver.services.invites import Invites
from homeserver.services.limits import Limits
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.messaging import Messaging
from homeserver.services.outbox import Outbox, Patience
from homeserver.services.presence import Presence
from homeserver.services.privacy import Privacy
from homeserver.services.probes import Probes
from homeserver.services.pubsub.hosts import Hosts
from homeserver.services.pubsub.nodes import Nodes
from homeserver.services.pubsub.publishing import Publishing
from homeserver.services.pubsub.service import PubSub
from homeserver.services.pubsub.subscriptions import Subscriptions
from homeserver.services.push import AppServers
from homeserver.services.push_notifications import PushNotifications
from homeserver.services.quota import WaitingQuota
from homeserver.services.registrations import Registrations
from homeserver.services.reports import Reports
from homeserver.services.retention import Pages, Retention
from homeserver.services.roles import Roles
from homeserver.services.router import Router
from homeserver.services.search import Search
from homeserver.services.sessions import Sessions
from homeserver.services.streams import Streams
from homeserver.services.tokens import Tokens
from homeserver.services.verifiers import Verifiers
from homeserver.storage.blobs import Blobs
from homeserver.storage.database import Database, open_database


class Rules(NamedTuple):
    """The services, between the functions of this module only: nothing that is built is given all of them."""

    clock: SystemClock
    metrics: Metrics
    database: Database
    limits: Limits
    accounts: Accounts
    tokens: Tokens
    sessions: Sessions
    mailboxes: Mailboxes
    delivery: Delivery
    outbox: Outbox
    router: Router
    enquiries: Enquiries
    messaging: Messaging
    contacts: Contacts
    presence: Presence
    probes: Probes
    pubsub: PubSub
    streams: Streams
    files: Files
    pages: Pages
    retention: Retention
    app_servers: AppServers
    push_notifications: PushNotifications
    external_services: ExternalServices
    privacy: Privacy
    profiles: ProfileParts
    blocking: Blocking
    reports: Reports
    clients: ClientLogins
    verifiers: Verifiers
    departures: Departures
    inbox: Inbox
    search: Search
    roles: Roles
    invites: Invites
    registrations: Registrations
    directory: Directory
    office: Office
    components: Components
    broadcasts: Broadcasts


async def build_rules(settings: Settings, public_url: str, stack: AsyncExitStack) -> Rules:
    """The services, each from what stands above it."""
    clock = SystemClock()
    domains = frozenset(settings.domains)
    database = await stack.enter_async_context(open_database(settings.storage))
    ids = IdSource(clock.microseconds, database.commit.last_id)
    limits = Limits(settings.limits, clock.monotonic)
    accounts = Accounts(database, settings.accounts, clock, settings.domains)
    await accounts.start()
    stack.callback(accounts.close)
    verifiers = Verifiers(database, settings.accounts)
    await verifiers.start()
    tokens = Tokens(database, settings.tokens, clock, accounts, public_url)
    await tokens.start()
    sessions = Sessions(settings.limits.sessions_per_account)
    mailboxes = Mailboxes(database, ids, clock)
    await mailboxes.load()
    delivery = Delivery(sessions, mailboxes)
    returned = Returned()
    federation = settings.federation
    patience = Patience(federation.queue_lifetime, federation.backoff_min, federation.backoff_max)
    outbox = Outbox(database, clock, ids.next, returned, patience)
    await outbox.start()
    router = Router(domains, outbox, federation.enabled)
    roles = Roles(accounts)
    await roles.start()
    router.guests = roles.guests
    privacy = await build_privacy(settings, database, sessions, accounts, mailboxes, router, stack)
    messaging = Messaging(router, accounts, mailboxes, delivery, outbox, privacy)
    returned.connect(accounts, messaging, router, privacy)
    admission = Admission(limits)
    contacts = Contacts(database, accounts, sessions, router, clock, privacy, admission, limits=settings.contacts)
    privacy.roster_of = contacts.roster
    stack.push_async_callback(contacts.settle)
    presence = Presence(contacts, sessions, router, database, clock, privacy, admission)
    presence.on_initial.append(delivery.arrived)
    _bound_waiting(settings.archive.waiting, delivery, mailboxes, messaging, presence)
    streams = Streams(database, clock)
    evictions = Evictions(sessions, streams)
    accounts.when_revoked(evictions)
    accounts.when_revoked(contacts.revoked)
    tokens.when_client_dropped(evictions.client)
    inbox = Inbox(database, mailboxes)
    stack.push_async_callback(inbox.close)
    messaging.on_stored.append(inbox.observe)
    accounts.when_revoked(inbox.revoked)
    enquiries = Enquiries(router)
    app_servers = AppServers(database, settings.push, clock)
    await attend(app_servers, accounts, tokens, stack)
    push_notifications = PushNotifications(app_servers, sessions, mailboxes, contacts, enquiries, settings.push)
    watch(push_notifications, messaging, delivery, stack)
    pubsub = build_pubsub(settings, database, accounts, contacts, clock, stack)
    audience = await build_audience(presence, contacts, router, enquiries, database, clock, stack)
    notify(pubsub, audience, contacts, accounts, sessions, router, stack)
    invites = Invites(database, accounts, roles, clock, settings.invites, public_url)
    administration = build_administration(database, accounts, roles, sessions, contacts, clock)
    office = await build_office(administration, database, accounts, messaging, sessions, presence, clock, stack)
    files = await open_files(settings, database, accounts, clock, public_url, stack)
    metrics = Metrics()
    measure(metrics, database, sessions, limits, outbox, push_notifications)
    return Rules(
        clock=clock,
        metrics=metrics,
        database=database,
        limits=limits,
        accounts=accounts,
        tokens=tokens,
        sessions=sessions,
        mailboxes=mailboxes,
        delivery=delivery,
        outbox=outbox,
        router=router,
        enquiries=enquiries,
        messaging=messaging,
        contacts=contacts,
        presence=presence,
        pubsub=pubsub,
        probes=Probes(presence, contacts, sessions, router),
        streams=streams,
        pages=Pages(settings.archive),
        retention=Retention(mailboxes, clock, settings.archive),
        roles=roles,
        invites=invites,
        registrations=Registrations(accounts, invites, contacts),
        directory=Directory(accounts, limits, settings.accounts.directory == "members"),
        app_servers=app_servers,
        push_notifications=push_notifications,
        external_services=ExternalServices(settings.external_service, clock),
        privacy=privacy,
        broadcasts=build_broadcasts(settings, messaging, limits, stack),
        components=build_components(settings, messaging, outbox, router, presence),
        profiles=build_profiles(
            settings.profiles, database, accounts, sessions, presence, pubsub, privacy, router, enquiries, stack
        ),
        blocking=Blocking(privacy, contacts, presence, sessions, router),
        reports=Reports(database, mailboxes, router, admission, clock, settings.privacy),
        office=office,
        files=files,
        clients=ClientLogins(database, settings.tokens, clock),
        verifiers=verifiers,
        departures=Departures(accounts, mailboxes, streams),
        inbox=inbox,
        search=Search(database),
    )


def measure(
    metrics: Metrics,
    database: Database,
    sessions: Sessions,
    limits: Limits,
    outbox: Outbox,
    push_notifications: PushNotifications,
) -> None:
    """Where the numbers are read."""
    metrics.read_from("sessions", lambda: len(sessions))
    metrics.read_from("logins", lambda: limits.logins.counts)
    metrics.read_from("limited", lambda: limits.limited.counts)
    metrics.read_from("outbox_waiting", outbox.waiting_by_state)
    metrics.read_from("push", lambda: push_notifications.outcomes.counts)
    commit = database.commit
    metrics.read_from("messages_stored", lambda: commit.stored)
    metrics.read_from("commit_seconds", lambda: commit.seconds)
    metrics.read_from("commit_rows", lambda: commit.rows)
    metrics.read_from("commits_failed", lambda: commit.failures)


async def open_files(
    settings: Settings, database: Database, accounts: Accounts, clock: SystemClock, url: str, stack: AsyncExitStack
) -> Files:
    """Uploaded files, in the data folder."""
    contents = Contents(Blobs(settings.data_dir / "uploads"))
    files = Files(database, contents, accounts, settings.upload, clock, settings.upload.public_url or url)
    stack.push_async_callback(files.close)
    await files.start()
    return files


async def attend(app_servers: AppServers, accounts: Accounts, tokens: Tokens, stack: AsyncExitStack) -> None:
    """Push registrations end with what they belong to."""
    await app_servers.start()
    stack.push_async_callback(app_servers.settle)
    accounts.when_revoked(app_servers.revoked)
    tokens.when_dropped(app_servers.dropped)
    tokens.when_client_dropped(app_servers.client_dropped)


def watch(notifications: PushNotifications, messaging: Messaging, delivery: Delivery, stack: AsyncExitStack) -> None:
    """App servers are told of what no device takes."""
    stack.push_async_callback(notifications.close)
    messaging.on_stored.append(notifications.stored)
    delivery.on_stranded.append(notifications.stranded)


def _bound_waiting(
    most: int, delivery: Delivery, mailboxes: Mailboxes, messaging: Messaging, presence: Presence
) -> None:
    """No more than ``most`` messages wait for an account that reads nothing."""
    quota = WaitingQuota(most)
    delivery.on_waiting.append(quota.waited)
    mailboxes.on_read.append(quota.read)
    presence.on_initial.append(quota.returned)
    messaging.full = quota.full


async def build_privacy(
    settings: Settings,
    database: Database,
    sessions: Sessions,
    accounts: Accounts,
    mailboxes: Mailboxes,
    router: Router,
    stack: AsyncExitStack,
) -> Privacy:
    """What accounts chose; the roster is given to it by who builds the contacts."""
    privacy = Privacy(database, sessions, settings.privacy)
    await privacy.start()
    privacy.has_written = mailboxes.has_written
    router.hides = partial(_hides, privacy, accounts)
    accounts.when_revoked(privacy.revoked)
    stack.push_async_callback(privacy.settle)
    return privacy


def _hides(privacy: Privacy, accounts: Accounts, sender: JID, to: JID) -> bool:
    """Whether the account behind an address keeps itself from another one."""
    return privacy.is_used and privacy.hides(accounts.peek(sender.bare), to)


def build_pubsub(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    contacts: Contacts,
    clock: SystemClock,
    stack: AsyncExitStack,
) -> PubSub:
    """Publish-subscribe: for every account, and a service under each domain."""
    hosts = Hosts(database, accounts, contacts, services_of(settings))
    accounts.when_revoked(hosts.revoked)
    stack.push_async_callback(hosts.settle)
    nodes = Nodes(hosts, database, accounts, clock, settings.pubsub)
    publishing = Publishing(hosts, nodes, database, clock)
    return PubSub(hosts, nodes, publishing, Subscriptions(hosts, nodes, publishing, database))


def build_broadcasts(settings: Settings, messaging: Messaging, limits: Limits, stack: AsyncExitStack) -> Broadcasts:
    """One message for many."""
    broadcasts = Broadcasts(messaging, limits, settings.broadcasts.addresses)
    stack.push_async_callback(broadcasts.settle)
    return broadcasts


def build_components(
    settings: Settings, messaging: Messaging, outbox: Outbox, router: Router, presence: Presence
) -> Components:
    """What connects from outside and answers for domains of its own."""
    agreed = [Terms(one.domain, router.origin(one.domain), one.secret, one.confirm) for one in settings.component]
    components = Components(agreed, messaging, outbox, router)
    components.watch(
        lambda domain, is_there: (presence.peer_returned if is_there else presence.peer_unreachable)(domain)
    )
    return components


def services_of(settings: Settings) -> dict[str, str]:
    """The domains of the publish-subscribe service, each with the domain it is under."""
    return {f"{settings.pubsub.subdomain}.{domain}": domain for domain in settings.domains}


class Evictions:
    """Ends the sessions of an account that may no longer be used, or of a client that was logged out."""

    def __init__(self, sessions: Sessions, streams: Streams) -> None:
        self._sessions = sessions
        self._streams = streams

    def __call__(self, revocation: Revocation) -> None:
        if revocation.ending is Ending.PASSWORD:
            return
        loop = asyncio.get_running_loop()
        for session in list(self._sessions.of(revocation.account.jid.bare)):
            # After the step that is under way: who removes its own account still gets the answer (XEP-0077 s3.2).
            loop.call_soon(session.disconnect, "not-authorized", "The account was disabled or deleted")

    def client(self, account: Account, client: str) -> None:
        """The sessions of one XMPP client, and what it could resume (XEP-0198 s5)."""
        self._streams.forget_client(account.id, client)
        loop = asyncio.get_running_loop()
        for session in list(self._sessions.of(account.jid.bare)):
            if session.device == client:
                loop.call_soon(session.disconnect, "not-authorized", "This device was logged out")
