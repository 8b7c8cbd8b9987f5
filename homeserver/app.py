"""The composition root: every object of the server, built in order, each from what stands above it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from client_api.http.app import Hosts, HttpServer, build_http
from client_api.http.auth import Auth
from client_api.http.endpoint import Gate
from client_api.http.live import LiveServices
from client_api.http.messages import Messages
from client_api.http.presence import PresenceEndpoints
from client_api.http.seeds import Seeds
from client_api.http.socket import Live, SocketBounds
from client_api.http.wellknown import WellKnown
from client_api.xmpp.binding import Binding, QueueBounds
from client_api.xmpp.connection import Connection, Wire
from client_api.xmpp.face import XmppFace
from client_api.xmpp.negotiation import Negotiation
from client_api.xmpp.resumption import Resumption
from client_api.xmpp.stanzas import Stanzas
from client_api.xmpp.tcp import ReceiveBuffer, TcpConnection, Tls, is_loopback
from client_api.xmpp.websocket import WebSocketFace
from config.settings import ListenSettings, Settings
from federation.arrivals import Arrivals, Returned
from federation.key_operations import Verbs
from federation.node import open_federation
from homeserver import wiring
from homeserver.domain.ids import IdSource
from homeserver.lifecycle import Lifecycle, Reloader, Startable, Sweeper
from homeserver.listeners import ALPN_HTTP, ALPN_XMPP, Certificates, Listener
from homeserver.metrics import Metrics
from homeserver.protocol import namespaces as ns
from homeserver.protocol.features import StreamOptions
from homeserver.protocol.framing import TcpFraming, WebSocketFraming
from homeserver.protocol.xml import serialise
from homeserver.protocol.xml_input import XmlLimits
from homeserver.services.accounts import Accounts, Ending, Revocation
from homeserver.services.client_messages import ClientMessages
from homeserver.services.clock import SystemClock
from homeserver.services.contacts import Contacts
from homeserver.services.control import Control
from homeserver.services.delivery import Delivery
from homeserver.services.health import Health
from homeserver.services.limits import Limits
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.messaging import Messaging
from homeserver.services.operations import Operations
from homeserver.services.outbox import Outbox, Patience
from homeserver.services.presence import Presence
from homeserver.services.retention import Pages, Retention
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.services.streams import Streams
from homeserver.services.tokens import Tokens
from homeserver.storage.database import Database, open_database
from homeserver.xmpp import archive, caps, carbons, core_presence, core_roster, disco, offline, queries, registration
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.core_message import Reader
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.feature import collect

VERSION: Final = "0.1.0"
FEATURES: Final = (
    archive.Archive,
    caps.Caps,
    carbons.Carbons,
    core_presence.CorePresence,
    core_roster.CoreRoster,
    disco.Disco,
    offline.Offline,
    queries.LastActivity,
    queries.Ping,
    queries.Time,
    queries.Version,
    registration.Registration,
)
"""What is built; a feature that is not here is not advertised."""


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
    messaging: Messaging
    contacts: Contacts
    presence: Presence
    streams: Streams
    pages: Pages
    retention: Retention


class Xmpp(NamedTuple):
    """The XMPP side: who handles stanzas, and who brings them."""

    dispatcher: Dispatcher
    face: XmppFace


async def build(
    settings: Settings, stack: AsyncExitStack, lifecycle: Lifecycle, reloader: Reloader
) -> Sequence[Startable]:
    """Build the server; what is returned is started in order and stopped in reverse."""
    public_url = settings.http.public_url or f"https://{settings.domains[0]}"
    rules = await build_rules(settings, public_url, stack)
    xmpp = build_xmpp(settings, rules)
    reloader.subscribe(partial(take_over, rules, xmpp))
    parts: list[Startable] = [xmpp.face]
    routes: list[web.RouteDef] = []
    verbs: Verbs = {}
    chores: list[Callable[[], Awaitable[object]]] = [rules.streams.expire, rules.tokens.purge, rules.accounts.purge]
    links = [(ns.XMPP_WEBSOCKET_LINK, websocket_url(public_url))]
    if settings.federation.enabled:
        base = settings.federation.url or f"{public_url}/federation/v1"
        arrivals = Arrivals(rules.accounts, rules.messaging, xmpp.dispatcher, rules.router)
        node = await open_federation(
            settings.federation,
            settings.groups,
            settings.domains,
            base,
            settings.data_dir,
            rules.clock,
            rules.database,
            rules.outbox,
            arrivals,
            rules.presence,
            rules.metrics,
            rules.limits.peer_wait,
            stack,
        )
        routes += node.routes
        links.append((ns.PARLEY_FEDERATION, base))
        parts.append(node)
        verbs = node.verbs
        reloader.subscribe(lambda new: node.reload(new.federation))
    else:
        # Nobody sends what an earlier configuration left, so nobody else tells its senders.
        chores.append(rules.outbox.expire)
    health = Health(rules.database)

    async def why_not_ready() -> str | None:
        return await health.why_not_ready() if lifecycle.is_ready else f"the server is {lifecycle.phase}"

    async def numbers() -> bytes:
        await health.measure()
        return rules.metrics.exposition()[0]

    routes += WellKnown(links, why_not_ready, numbers, settings.metrics.allow).routes()
    client_messages = ClientMessages(rules.database, rules.messaging, rules.clock)
    https = build_json(settings, rules, client_messages, xmpp.face, routes, public_url)
    certificates = Certificates(settings.tls)
    reloader.subscribe(lambda new: certificates.reload(new.tls))
    rules.metrics.read_from("certificate_expiry_seconds", certificates.first_expiry)
    rules.metrics.read_from("store_bytes", lambda: health.store_bytes)
    control = Control(settings.data_dir, Operations(rules.accounts, rules.outbox, verbs))
    sweeper = Sweeper(*chores, client_messages.purge, rules.retention.purge)
    return [sweeper, *parts, https, control, *build_listeners(settings, xmpp.face, https, certificates)]


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
    messaging = Messaging(router, accounts, mailboxes, delivery, outbox)
    returned.connect(accounts, messaging, router)
    contacts = Contacts(database, accounts, sessions, router, clock, limits=settings.contacts)
    stack.push_async_callback(contacts.settle)
    presence = Presence(contacts, sessions, router, database, clock)
    presence.on_initial.append(delivery.arrived)
    accounts.when_revoked(Evictions(sessions))
    accounts.when_revoked(contacts.revoked)
    streams = Streams(database, clock)
    metrics = Metrics()
    metrics.read_from("sessions", lambda: len(sessions))
    metrics.read_from("logins", lambda: limits.logins.counts)
    metrics.read_from("limited", lambda: limits.limited.counts)
    metrics.read_from("outbox_waiting", outbox.waiting_by_state)
    commit = database.commit
    metrics.read_from("messages_stored", lambda: commit.stored)
    metrics.read_from("commit_seconds", lambda: commit.seconds)
    metrics.read_from("commit_rows", lambda: commit.rows)
    metrics.read_from("commits_failed", lambda: commit.failures)
    return Rules(
        clock,
        metrics,
        database,
        limits,
        accounts,
        tokens,
        sessions,
        mailboxes,
        delivery,
        outbox,
        router,
        messaging,
        contacts,
        presence,
        streams,
        Pages(settings.archive),
        Retention(mailboxes, clock, settings.archive),
    )


def take_over(rules: Rules, xmpp: Xmpp, new: Settings) -> None:
    """After SIGHUP: the keys that are marked reloadable, less those of federation, certificates and the log."""
    rules.accounts.reload(new.accounts)
    rules.limits.reload(new.limits)
    rules.sessions.limit = new.limits.sessions_per_account
    rules.pages.reload(new.archive)
    rules.retention.reload(new.archive)
    xmpp.face.reload(new.limits, rules.accounts.registration_is_open)


def build_xmpp(settings: Settings, rules: Rules) -> Xmpp:
    """The features, the dispatcher over them, and the face that clients connect to."""
    catalogue = Catalogue("Parley")
    software = queries.Software("Parley", VERSION, rules.clock)
    features = wiring.build(
        FEATURES,
        [
            rules.accounts,
            rules.contacts,
            rules.presence,
            rules.mailboxes,
            rules.router,
            rules.limits,
            rules.pages,
            catalogue,
            software,
        ],
    )
    handlers = collect(features)
    catalogue.declare(handlers.declarations)
    dispatcher = Dispatcher(handlers, rules.accounts, rules.sessions, rules.router, rules.messaging)
    by_type: dict[type, Any] = {type(feature): feature for feature in features}
    resumption = Resumption(
        rules.streams, rules.sessions, rules.delivery, rules.mailboxes, rules.clock, settings.limits.resume_time
    )
    binding = Binding(
        Negotiation(rules.accounts, rules.limits, by_type[registration.Registration]),
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
        decoy_secret=b"",
        registration=by_type[registration.Registration].is_offered,
        after_login=serialise(by_type[caps.Caps].element(settings.domains[0])),
    )
    stanzas = Stanzas(dispatcher, rules.mailboxes, resumption)
    rules.metrics.read_from("stanzas", stanzas.counts)
    return Xmpp(dispatcher, XmppFace(options, settings.limits, binding, stanzas, resumption))


def build_json(
    settings: Settings,
    rules: Rules,
    client_messages: ClientMessages,
    face: XmppFace,
    routes: list[web.RouteDef],
    public_url: str,
) -> HttpServer:
    """The HTTPS side: the JSON API, its live sockets, XMPP over WebSocket, and the ``routes`` of others."""
    gate = Gate(rules.tokens, rules.limits, settings.http.request_bytes)
    messages = Messages(
        rules.accounts,
        rules.mailboxes,
        client_messages,
        Reader(rules.router.domains),
        rules.pages,
        settings.limits.stanza_bytes,
    )
    auth = Auth(rules.accounts, rules.tokens, rules.limits)
    bounds = SocketBounds(
        origins=frozenset(settings.http.cors_origins),
        unsent_bytes=settings.limits.unsent_bytes,
        frame_bytes=settings.limits.stanza_bytes,
    )
    services = LiveServices(rules.sessions, rules.delivery, rules.presence, rules.router)
    live = Live(gate, rules.tokens, messages, rules.mailboxes, services, rules.limits, bounds)
    endpoints = [auth, messages, PresenceEndpoints(rules.contacts, rules.sessions, live), Seeds(auth, messages)]
    cleartext = any(entry.kind == "https" and entry.tls == "optional" for entry in settings.listen)
    websocket = WebSocketFace(websocket_connect(face, cleartext), settings.limits.stanza_bytes)
    routes = [*routes, *live.routes(), web.get("/xmpp-websocket", websocket.handle)]
    hosts = Hosts(host_names(settings, public_url))
    app = build_http(endpoints, routes, gate, settings.http, hosts, public_url)
    server = HttpServer(app, ending=[live.close_all])
    rules.metrics.read_from(
        "connections",
        lambda: {"xmpp": len(face) - websocket.open, "websocket": websocket.open, "http": len(server)},
    )
    rules.metrics.read_from("http_requests", lambda: server.traffic.statuses.counts)
    rules.metrics.read_from("http_seconds", lambda: server.traffic.seconds)
    return server


def build_listeners(
    settings: Settings, face: XmppFace, https: HttpServer, certificates: Certificates
) -> list[Listener]:
    """The ports."""
    buffer = ReceiveBuffer()
    return [
        Listener(entry, https.connection, certificates, ALPN_HTTP)
        if entry.kind == "https"
        else xmpp_listener(entry, face, buffer, certificates)
        for entry in settings.listen
    ]


class Evictions:
    """Ends the sessions of an account that may no longer be used."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def __call__(self, revocation: Revocation) -> None:
        if revocation.ending is Ending.PASSWORD:
            return
        loop = asyncio.get_running_loop()
        for session in list(self._sessions.of(revocation.account.jid.bare)):
            # After the step that is under way: who removes its own account still gets the answer (XEP-0077 s3.2).
            loop.call_soon(session.disconnect, "not-authorized", "The account was disabled or deleted")


def xmpp_listener(entry: ListenSettings, face: XmppFace, buffer: ReceiveBuffer, certificates: Certificates) -> Listener:
    """A port for XMPP clients."""
    direct = entry.kind == "xmpps" or entry.tls == "direct"
    tls = Tls(certificates, ALPN_XMPP if direct else ())
    options = face.options(cleartext_ok=entry.tls == "optional", starttls=not direct and bool(certificates.identities))

    def connect(wire: Wire, address: str, bindings: dict[str, bytes] | None) -> Connection:
        return face.connect(wire, address, bindings, TcpFraming(XmlLimits()), options)

    return Listener(entry, lambda: TcpConnection(connect, buffer, tls), certificates, ALPN_XMPP)


def websocket_connect(face: XmppFace, cleartext: bool) -> Any:
    """Makes connections of WebSockets; without TLS only where the listener is a cleartext one."""

    def connect(wire: Wire, address: str, bindings: dict[str, bytes] | None) -> Connection:
        options = face.options(cleartext_ok=cleartext, starttls=False)
        return face.connect(wire, address, bindings, WebSocketFraming(XmlLimits()), options)

    return connect


def websocket_url(public_url: str) -> str:
    """Where XMPP over WebSocket is served."""
    return "ws" + public_url.removeprefix("http") + "/xmpp-websocket"


def host_names(settings: Settings, public_url: str) -> frozenset[str]:
    """Host headers that are served."""
    names = {*settings.domains, *settings.http.trusted_hosts, urlsplit(public_url).hostname or ""}
    if settings.federation.url:
        names.add(urlsplit(settings.federation.url).hostname or "")
    for entry in settings.listen:
        if entry.kind == "https" and is_loopback(entry.host):
            names |= {"localhost", "127.0.0.1", "::1"}
    return frozenset(names)
