"""A server without sockets: real services and features over a real store, with fake sessions and fake peers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import Element

from config.feature_settings import (
    ContactAddressSettings,
    InviteSettings,
    PrivacySettings,
    ProfileSettings,
    PubSubSettings,
)
from config.settings import AccountSettings, ContactSettings, LimitSettings
from homeserver import wiring
from homeserver.app.profiles import ProfileParts, build_profiles
from homeserver.domain.accounts import Account, Role
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import PageRequest
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import parse_stanza, text_of
from homeserver.services.accounts import Accounts
from homeserver.services.administration import Administration
from homeserver.services.admission import Admission
from homeserver.services.announcements import Announcements
from homeserver.services.audience import Audience
from homeserver.services.blocking import Blocking
from homeserver.services.broadcasts import Broadcasts
from homeserver.services.contacts import Contacts
from homeserver.services.delivery import Delivery
from homeserver.services.directory import Directory
from homeserver.services.enquiries import Enquiries
from homeserver.services.entity_caps import EntityCaps
from homeserver.services.invites import Invites
from homeserver.services.limits import Limits
from homeserver.services.logins import Logins
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.messaging import Messaging
from homeserver.services.notices import Notices
from homeserver.services.notifications import Notifications
from homeserver.services.presence import Presence
from homeserver.services.privacy import Privacy
from homeserver.services.probes import Probes
from homeserver.services.pubsub.hosts import Hosts
from homeserver.services.pubsub.nodes import Nodes
from homeserver.services.pubsub.publishing import Publishing
from homeserver.services.pubsub.service import PubSub
from homeserver.services.pubsub.subscriptions import Subscriptions
from homeserver.services.registrations import Registrations
from homeserver.services.reports import Reports, ReportVerbs
from homeserver.services.roles import Roles
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.services.shutdown import Shutdown
from homeserver.storage import accounts as account_storage
from homeserver.storage.database import Database, open_database
from homeserver.xmpp.addressing import ExtendedAddressing, Multicast
from homeserver.xmpp.administration_accounts import AccountCommands, AccountQueries
from homeserver.xmpp.administration_lists import UserLists, UserNumbers
from homeserver.xmpp.administration_messages import AnnouncementCommands, NoticeCommands, ShutdownCommands
from homeserver.xmpp.administration_reports import ReportCommands
from homeserver.xmpp.archive_preferences import Preferences
from homeserver.xmpp.blocking import BlockingCommand
from homeserver.xmpp.bookmarks import BookmarksConversion, NativeBookmarks
from homeserver.xmpp.caps import Caps
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.commands import CommandBook, Commands
from homeserver.xmpp.contact_addresses import Addresses, ContactAddresses
from homeserver.xmpp.core_message import start_tag
from homeserver.xmpp.core_presence import CorePresence
from homeserver.xmpp.core_roster import CoreRoster
from homeserver.xmpp.disco import Disco
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.displayed import DisplayedSync
from homeserver.xmpp.feature import Addressee, collect
from homeserver.xmpp.invites import Invitations, InviteCommands
from homeserver.xmpp.ping_command import PingCommand
from homeserver.xmpp.private_data import PrivateStorage
from homeserver.xmpp.pubsub import PubSubRequests
from homeserver.xmpp.pubsub_disco import PubSubDisco
from homeserver.xmpp.pubsub_owner import PubSubOwner
from homeserver.xmpp.queries import LastActivity, Ping, Software, Time, Version
from homeserver.xmpp.registration import Registration
from homeserver.xmpp.reporting import Reporting
from homeserver.xmpp.search import Search
from homeserver.xmpp.vcards import AvatarConversion, VCard4, VCards
from tests.kit.clocks import FakeClock
from tests.kit.fakes import FakeOutbox, FakeSession, stanza

DOMAINS = ("a.example", "b.example")
FEATURES: tuple[type, ...] = (
    AccountCommands,
    AccountQueries,
    AnnouncementCommands,
    NoticeCommands,
    ReportCommands,
    ShutdownCommands,
    UserLists,
    UserNumbers,
    ExtendedAddressing,
    AvatarConversion,
    BlockingCommand,
    BookmarksConversion,
    Caps,
    Commands,
    ContactAddresses,
    CorePresence,
    CoreRoster,
    Disco,
    DisplayedSync,
    Invitations,
    InviteCommands,
    LastActivity,
    NativeBookmarks,
    Ping,
    PingCommand,
    Preferences,
    PrivateStorage,
    PubSubDisco,
    PubSubOwner,
    PubSubRequests,
    Registration,
    Reporting,
    Search,
    Time,
    VCard4,
    VCards,
    Version,
)


@dataclass
class Section:
    """A storage section as the settings give it."""

    path: Path
    url: str | None = None
    synchronous: str = "normal"
    readers: int = 1


@dataclass
class World:
    """Everything of one server that a test of contacts, presence or discovery needs."""

    database: Database
    clock: FakeClock
    accounts: Accounts
    sessions: Sessions
    outbox: FakeOutbox
    router: Router
    contacts: Contacts
    presence: Presence
    pubsub: PubSub
    catalogue: Catalogue
    dispatcher: Dispatcher
    features: list[Any]
    caps: EntityCaps
    audience: Audience
    notifications: Notifications
    privacy: Privacy
    mailboxes: Mailboxes
    delivery: Delivery
    messaging: Messaging
    profiles: ProfileParts
    blocking: Blocking
    reports: Reports
    limits: Limits
    broadcasts: Broadcasts
    roles: Roles
    invites: Invites
    registrations: Registrations
    administration: Administration
    announcements: Announcements
    notices: Notices
    shutdown: Shutdown
    live: list[FakeSession] = field(default_factory=list)

    async def account(self, name: str) -> Account:
        """The account of a bare JID without its domain, or with it; made when it is not there."""
        jid = JID.parse(name if "@" in name else f"{name}@a.example")
        found = await self.accounts.find(jid.bare)
        if found is None:
            new = account_storage.NewAccount(jid, Role.MEMBER, [], self.clock.now(), None)
            found = await self.database.write(account_storage.create, new)
            self.accounts._absent.pop(jid.bare, None)
        return found

    async def session(self, name: str, resource: str = "phone", *, roster: bool = True) -> FakeSession:
        """A bound session that asked for its roster and has not sent presence."""
        made = FakeSession(await self.account(name), resource, self.presence.is_visible)
        self.sessions.bind(made)
        if roster:
            await self.iq(made, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        made.sent.clear()
        return made

    async def online(self, name: str, resource: str = "phone", presence: str = "<presence/>") -> FakeSession:
        """A session that is available; what that brought it is forgotten."""
        made = await self.session(name, resource)
        await self.send(made, presence)
        made.take()
        return made

    async def send(self, session: FakeSession, text: str) -> None:
        """A client sends presence or an IQ."""
        made = stanza(text, session.jid)
        if made.name == "iq":
            await self._finished(self.dispatcher.iq(session, made, None))
        else:
            await self._finished(self.dispatcher.presence(session, made))

    async def write(self, session: FakeSession, to: str, text: str, kind: str = "chat", origin: str = "") -> list[Any]:
        """A client sends a message; what it was told: the stored message, an error, or (None, None) for a refusal."""
        more = f"<origin-id xmlns='{ns.STANZA_ID}' id='{origin}'/>" if origin else ""
        body = f"<message to='{to}' type='{kind}' id='m'><body>{text}</body>{more}</message>"
        told: list[Any] = []
        element = stanza(body, session.jid).element
        waiting = self.dispatcher.message(
            session, element, None, JID.parse(to), start_tag(session.jid), lambda *found: told.append(found)
        )
        await self._finished(waiting)
        return told

    async def archive(self, name: str) -> list[str]:
        """The texts in an account's archive, oldest first."""
        page = await self.mailboxes.page(await self.account(name), PageRequest(100))
        return [text_of(parse_stanza(entry.payload), ns.CLIENT, "body") or "" for entry in page.entries]

    async def waiting(self, name: str) -> list[str]:
        """The texts that wait for an account, oldest first."""
        found = await self.mailboxes.pending(await self.account(name), 100)
        return [text_of(parse_stanza(entry.payload), ns.CLIENT, "body") or "" for entry in found]

    async def iq(self, session: FakeSession, text: str) -> Element:
        """A client sends an IQ to this server; its answer."""
        session.sent.clear()
        await self._finished(self.dispatcher.iq(session, stanza(text, session.jid), None))
        answers = [found for found in session.take() if found.get("type") in ("result", "error")]
        assert len(answers) == 1
        return answers[0]

    async def remote(self, sender: str, text: str) -> None:
        """Another server sends a stanza in the name of ``sender``."""
        await self._finished(self.dispatcher.inbound(stanza(text, JID.parse(sender))))

    async def befriend(self, one: str, other: str) -> None:
        """Subscriptions both ways between two local accounts."""
        first, second = await self.account(one), await self.account(other)
        for asker, asked in ((first, second), (second, first)):
            await self.contacts.request(asker, asked.jid)
            await self.contacts.accept(asked, asker.jid)
        await self.settle()

    def leave(self, session: FakeSession) -> None:
        """The connection is gone for good."""
        self.sessions.unbind(session)

    async def settle(self) -> None:
        """Wait for what goes on in the background."""
        await self.contacts.settle()
        await self.broadcasts.settle()
        await self.profiles.bookmarks.settle()
        await self.profiles.avatars.settle()
        while self.dispatcher._background or self.delivery._tasks:
            await asyncio.gather(*self.dispatcher._background, *self.delivery._tasks)
        done = asyncio.get_running_loop().create_future()
        self.database.commit.follow(lambda _error: done.set_result(None))
        await done
        await asyncio.sleep(0)

    async def _finished(self, waiting: Any) -> None:
        if waiting is not None:
            await waiting
        await self.settle()


@asynccontextmanager
async def world(
    path: Path,
    *,
    registration: str = "open",
    limits: ContactSettings | None = None,
    privacy: PrivacySettings | None = None,
    rates: LimitSettings | None = None,
    pubsub_settings: PubSubSettings | None = None,
    profile_settings: ProfileSettings | None = None,
) -> AsyncIterator[World]:
    """Open one over the store at ``path``; open it again for a restart."""
    clock = FakeClock()
    async with open_database(Section(path)) as database:
        settings = AccountSettings(registration=registration, scram_iterations=4096, deletion_grace=0.0)
        accounts = Accounts(database, settings, clock, DOMAINS)
        await accounts.start()
        outbox = FakeOutbox()
        router = Router(frozenset(DOMAINS), cast(Any, outbox))
        roles = Roles(accounts)
        await roles.start()
        router.guests = roles.guests
        sessions = Sessions(50)
        mailboxes = Mailboxes(database, IdSource(clock.microseconds, database.commit.last_id), clock)
        await mailboxes.load()
        privacy_settings = privacy or PrivacySettings()
        rules = Privacy(database, sessions, privacy_settings)
        await rules.start()
        rules.has_written = mailboxes.has_written
        router.hides = lambda sender, to: rules.hides(accounts.peek(sender.bare), to)
        delivery = Delivery(sessions, mailboxes)
        messaging = Messaging(router, accounts, mailboxes, delivery, cast(Any, outbox), rules)
        buckets = Limits(rates or LimitSettings(), clock.monotonic)
        admission = Admission(buckets)
        contacts = Contacts(
            database, accounts, sessions, router, clock, rules, admission, limits=limits or ContactSettings()
        )
        rules.roster_of = contacts.roster
        accounts.when_revoked(contacts.revoked)
        accounts.when_revoked(rules.revoked)
        presence = Presence(contacts, sessions, router, database, clock, rules, admission)
        presence.on_initial.append(delivery.arrived)
        stack = AsyncExitStack()
        blocking = Blocking(rules, contacts, presence, sessions, router)
        reports = Reports(database, mailboxes, router, admission, clock, privacy_settings)
        hosts = Hosts(database, accounts, contacts, {f"pubsub.{domain}" for domain in DOMAINS})
        accounts.when_revoked(hosts.revoked)
        nodes = Nodes(hosts, database, accounts, clock, pubsub_settings or PubSubSettings())
        publishing = Publishing(hosts, nodes, database, clock)
        pubsub = PubSub(hosts, nodes, publishing, Subscriptions(hosts, nodes, publishing, database))
        enquiries = Enquiries(router)
        profiles = build_profiles(
            profile_settings or ProfileSettings(),
            database,
            accounts,
            sessions,
            presence,
            pubsub,
            rules,
            router,
            enquiries,
            stack,
        )
        catalogue = Catalogue("Parley")
        software = Software("Parley", "1.2.3", clock)
        buckets = Limits(LimitSettings(), clock.monotonic)
        broadcasts = Broadcasts(messaging, buckets, 50)
        multicast = Multicast(broadcasts, presence, router)
        for domain in DOMAINS:
            router.attach(domain, multicast)
        messaging.copied = multicast.prepare
        probes = Probes(presence, contacts, sessions, router)
        invites = Invites(database, accounts, roles, clock, InviteSettings(), "https://a.example")
        registrations = Registrations(accounts, invites, contacts)
        directory = Directory(accounts, buckets, True)
        logins = Logins(database, clock)
        sessions.on_bound.append(logins.bound)
        accounts.when_revoked(logins.revoked)
        administration = Administration(accounts, roles, sessions, contacts, logins)
        announcements = Announcements(database, messaging, sessions, clock)
        notices = Notices(database, messaging, sessions, clock)
        await notices.load()
        presence.on_initial.append(notices.greet)
        accounts.when_revoked(notices.revoked)
        shutdown = Shutdown(announcements)
        book = CommandBook(clock)
        shown = Addresses(ContactAddressSettings(admin=("xmpp:admin@a.example",), abuse=("mailto:abuse@a.example",)))
        parts: list[Any] = [
            accounts,
            book,
            buckets,
            catalogue,
            contacts,
            directory,
            invites,
            presence,
            probes,
            pubsub,
            *profiles,
            registrations,
            router,
            shown,
            software,
            sessions,
            rules,
            blocking,
            reports,
            administration,
            announcements,
            notices,
            shutdown,
            ReportVerbs(database, clock),
            multicast,
        ]
        features = wiring.build(FEATURES, parts)
        book.collect(features)
        handlers = collect(features)
        catalogue.declare(handlers.declarations)
        dispatcher = Dispatcher(handlers, accounts, sessions, router, messaging, enquiries, rules)
        for domain in DOMAINS:
            dispatcher.serve(f"pubsub.{domain}", Addressee.PUBSUB)
        caps = EntityCaps(enquiries, database, clock)
        await caps.load()
        audience = Audience(presence, contacts, router, caps)
        notifications = Notifications(pubsub, audience, contacts, accounts, sessions, router)
        try:
            yield World(
                database=database,
                clock=clock,
                accounts=accounts,
                sessions=sessions,
                outbox=outbox,
                router=router,
                contacts=contacts,
                presence=presence,
                pubsub=pubsub,
                catalogue=catalogue,
                dispatcher=dispatcher,
                features=features,
                roles=roles,
                invites=invites,
                registrations=registrations,
                caps=caps,
                audience=audience,
                notifications=notifications,
                privacy=rules,
                mailboxes=mailboxes,
                delivery=delivery,
                messaging=messaging,
                profiles=profiles,
                blocking=blocking,
                reports=reports,
                administration=administration,
                announcements=announcements,
                notices=notices,
                shutdown=shutdown,
                limits=buckets,
                broadcasts=broadcasts,
            )
        finally:
            await stack.aclose()
            shutdown.close()
            await announcements.stop(0)
            await notices.settle()
            await caps.close()
            await audience.settle()
            await notifications.settle()
            await hosts.settle()
            await contacts.settle()
            await rules.settle()
            accounts.close()
