"""The XMPP side: the features, the dispatcher over them, and the face that clients connect to."""

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from client_api.xmpp.binding import Binding, QueueBounds
from client_api.xmpp.face import XmppFace
from client_api.xmpp.negotiation import Negotiation
from client_api.xmpp.resumption import Resumption
from client_api.xmpp.stanzas import Stanzas
from config.settings import Settings
from homeserver import wiring
from homeserver.app.rules import Rules, services_of
from homeserver.protocol.features import StreamOptions
from homeserver.protocol.sasl import MECHANISMS
from homeserver.protocol.xml import serialise
from homeserver.services.reports import ReportVerbs
from homeserver.xmpp import (
    addressing,
    administration_accounts,
    administration_lists,
    administration_messages,
    administration_reports,
    archive,
    archive_preferences,
    blocking,
    bookmarks,
    caps,
    carbons,
    commands,
    contact_addresses,
    core_presence,
    core_roster,
    disco,
    displayed,
    external_services,
    inbox,
    invites,
    offline,
    ping_command,
    private_data,
    pubsub,
    pubsub_approvals,
    pubsub_disco,
    pubsub_owner,
    push,
    queries,
    registration,
    reporting,
    retraction,
    search,
    upload,
    vcards,
)
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.feature import Addressee, collect

VERSION: Final = "0.1.0"
FEATURES: Final = (
    administration_accounts.AccountCommands,
    administration_accounts.AccountQueries,
    administration_lists.UserLists,
    administration_lists.UserNumbers,
    administration_messages.AnnouncementCommands,
    administration_messages.NoticeCommands,
    administration_messages.ShutdownCommands,
    administration_reports.ReportCommands,
    addressing.ExtendedAddressing,
    archive.Archive,
    archive_preferences.Preferences,
    blocking.BlockingCommand,
    bookmarks.BookmarksConversion,
    bookmarks.NativeBookmarks,
    caps.Caps,
    carbons.Carbons,
    commands.Commands,
    contact_addresses.ContactAddresses,
    core_presence.CorePresence,
    core_roster.CoreRoster,
    disco.Disco,
    displayed.DisplayedSync,
    external_services.ExternalServiceDiscovery,
    invites.Invitations,
    invites.InviteCommands,
    offline.Offline,
    push.Push,
    ping_command.PingCommand,
    private_data.PrivateStorage,
    queries.LastActivity,
    queries.Ping,
    queries.Time,
    queries.Version,
    pubsub.PubSubRequests,
    pubsub_disco.PubSubDisco,
    pubsub_owner.PubSubOwner,
    registration.Registration,
    reporting.Reporting,
    upload.Upload,
    inbox.Conversations,
    retraction.Retraction,
    search.Search,
    vcards.AvatarConversion,
    vcards.VCard4,
    vcards.VCards,
)
"""What is built; a feature that is not here is not advertised. `Search` is left out where there is no directory."""


class Xmpp(NamedTuple):
    """The XMPP side: who handles stanzas, and who brings them."""

    dispatcher: Dispatcher
    face: XmppFace


def build_xmpp(settings: Settings, rules: Rules) -> Xmpp:
    """The features, the dispatcher over them, and the face that clients connect to."""
    catalogue = Catalogue("Parley")
    software = queries.Software("Parley", VERSION, rules.clock)
    book = commands.CommandBook(rules.clock)
    multicast = addressing.Multicast(rules.broadcasts, rules.presence, rules.router)
    features = wiring.build(
        [kind for kind in FEATURES if kind is not search.Search or rules.directory.is_open],
        [
            rules.accounts,
            rules.contacts,
            rules.presence,
            rules.probes,
            rules.mailboxes,
            rules.router,
            rules.limits,
            rules.pages,
            rules.files,
            rules.app_servers,
            rules.external_services,
            *rules.profiles,
            rules.sessions,
            rules.privacy,
            rules.blocking,
            rules.reports,
            rules.inbox,
            rules.search,
            rules.pubsub,
            rules.invites,
            rules.registrations,
            rules.directory,
            *rules.office,
            ReportVerbs(rules.database, rules.clock),
            multicast,
            catalogue,
            software,
            book,
            contact_addresses.Addresses(settings.contact_addresses),
        ],
    )
    book.collect(features)
    handlers = collect(features)
    catalogue.declare(handlers.declarations)
    approvals = pubsub_approvals.Approvals(rules.pubsub)
    rules.messaging.on_stored.append(approvals.stored)
    dispatcher = Dispatcher(
        handlers,
        rules.accounts,
        rules.sessions,
        rules.router,
        rules.messaging,
        rules.enquiries,
        rules.privacy,
    )
    attach_services(settings, rules, dispatcher, catalogue, approvals)
    for domain in settings.domains:
        rules.router.attach(domain, multicast)
    rules.messaging.copied = multicast.prepare
    by_type: dict[type, Any] = {type(feature): feature for feature in features}
    resumption = Resumption(
        rules.streams, rules.sessions, rules.delivery, rules.mailboxes, rules.clock, settings.limits.resume_time
    )
    binding = Binding(
        Negotiation(rules.accounts, rules.limits, by_type[registration.Registration], rules.clients, rules.verifiers),
        rules.sessions,
        rules.delivery,
        rules.presence,
        resumption,
        by_type[archive.Archive],
        QueueBounds(settings.limits.resume_stanzas, settings.limits.resume_bytes),
    )
    options = StreamOptions(
        domains=rules.router.domains,
        default_domain=settings.domains[0],
        mechanisms=offered_mechanisms(rules.verifiers.lacking),
        tokens=rules.clients.gives_tokens,
        upgrades=rules.verifiers.lacking,
        registration=rules.registrations.is_possible,
        invitations=rules.registrations.is_possible,
        after_login=serialise(by_type[caps.Caps].element(settings.domains[0])),
    )
    stanzas = Stanzas(dispatcher, rules.mailboxes, resumption)
    rules.metrics.read_from("stanzas", stanzas.counts)
    return Xmpp(dispatcher, XmppFace(options, settings.limits, binding, stanzas, resumption))


def attach_services(
    settings: Settings,
    rules: Rules,
    dispatcher: Dispatcher,
    catalogue: Catalogue,
    approvals: pubsub_approvals.Approvals,
) -> None:
    """Services below the domains, those of others included."""
    if settings.upload.enabled:
        for domain in settings.domains:
            service = f"{settings.upload.subdomain}.{domain}"
            dispatcher.serve(service, Addressee.UPLOAD)
            catalogue.add_item(domain, service, upload.NAME)
    for service, domain in services_of(settings).items():
        dispatcher.serve(service, Addressee.PUBSUB, approvals.take)
        catalogue.add_item(domain, service, "Publish-subscribe")
    for component in settings.component:
        if component.listed:
            above = rules.router.origin(component.domain)
            catalogue.add_item(above, component.domain, component.name or component.domain)


def offered_mechanisms(lacking: Collection[str]) -> tuple[str, ...]:
    """All there are, less SCRAM-SHA-512 while an account has no verifier for it: a client would take it and fail."""
    return tuple(name for name in MECHANISMS if "SHA-512" not in lacking or not name.startswith("SCRAM-SHA-512"))
