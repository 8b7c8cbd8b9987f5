"""The HTTPS side: the JSON API, its live sockets, and XMPP over WebSocket."""

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from client_api.http.administration import AdministrationEndpoints
from client_api.http.amendments import Amendments
from client_api.http.announcements import AnnouncementEndpoints
from client_api.http.app import Hosts, HttpServer, build_http
from client_api.http.auth import Auth
from client_api.http.blocks import Blocks
from client_api.http.broadcasts import BroadcastEndpoints
from client_api.http.calls import Calls
from client_api.http.conversations import Conversations
from client_api.http.directory import DirectoryEndpoints
from client_api.http.endpoint import Gate
from client_api.http.files import FileEndpoints, FileRoutes
from client_api.http.invites import InviteEndpoints
from client_api.http.landing import Landing
from client_api.http.live import LiveServices
from client_api.http.live_sessions import SessionEndpoints
from client_api.http.messages import Messages
from client_api.http.presence import PresenceEndpoints
from client_api.http.privacy import PrivacyEndpoints
from client_api.http.profile import ProfileEndpoints
from client_api.http.push import PushEndpoints
from client_api.http.search import Searching
from client_api.http.seeds import Seeds
from client_api.http.server_info import ServerInfoEndpoints
from client_api.http.settings import SettingsEndpoints
from client_api.http.socket import Live, SocketBounds
from client_api.xmpp.bosh import BoshFace, MakeBosh
from client_api.xmpp.connection import Connection, Wire
from client_api.xmpp.face import XmppFace
from client_api.xmpp.tcp import is_loopback
from client_api.xmpp.websocket import WebSocketFace
from config.settings import Settings
from homeserver.app.rules import Rules
from homeserver.protocol.bosh import BoshFraming
from homeserver.protocol.framing import WebSocketFraming
from homeserver.protocol.xml_input import XmlLimits
from homeserver.services.client_messages import ClientMessages
from homeserver.xmpp.contact_addresses import Addresses
from homeserver.xmpp.core_message import Reader


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
    auth = Auth(rules.accounts, rules.registrations, rules.tokens, rules.limits)
    bounds = SocketBounds(
        origins=frozenset(settings.http.cors_origins),
        unsent_bytes=settings.limits.unsent_bytes,
        frame_bytes=settings.limits.stanza_bytes,
    )
    services = LiveServices(rules.sessions, rules.delivery, rules.presence, rules.router)
    live = Live(gate, rules.tokens, messages, rules.mailboxes, services, rules.limits, bounds)
    files = FileEndpoints(rules.files)
    conversations = Conversations(messages, rules.inbox, rules.mailboxes, rules.pages)
    office = rules.office
    endpoints: list[object] = [
        auth,
        InviteEndpoints(rules.invites),
        DirectoryEndpoints(rules.directory, rules.profiles.profiles),
        AdministrationEndpoints(rules.accounts, rules.roles, rules.invites),
        AnnouncementEndpoints(office.announcements, office.notices, rules.roles, settings.domains),
        SessionEndpoints(office.administration),
        ServerInfoEndpoints(rules.accounts, Addresses(settings.contact_addresses)),
        messages,
        BroadcastEndpoints(messages, rules.broadcasts),
        conversations,
        Amendments(messages, rules.mailboxes),
        Searching(rules.search, messages, rules.mailboxes, rules.pages),
        PresenceEndpoints(rules.contacts, rules.sessions, live),
        PushEndpoints(rules.app_servers),
        Calls(rules.external_services),
        Seeds(auth, messages, conversations, files),
        files,
        Blocks(rules.blocking, rules.reports),
        PrivacyEndpoints(rules.privacy),
        ProfileEndpoints(rules.profiles.profiles, rules.profiles.lookup),
        SettingsEndpoints(rules.profiles.private),
    ]
    landing = Landing(rules.invites, rules.accounts, rules.limits)
    if settings.upload.enabled:
        routes = [*routes, *FileRoutes(rules.files, settings.upload.public_url).routes()]
    cleartext = any(entry.kind == "https" and entry.tls == "optional" for entry in settings.listen)
    websocket = WebSocketFace(websocket_connect(face, cleartext), settings.limits.stanza_bytes)
    bosh = BoshFace(bosh_connect(face, cleartext), settings.limits.stanza_bytes)
    routes = [*routes, *landing.routes(), *live.routes(), *bosh.routes()]
    routes.append(web.get("/xmpp-websocket", websocket.handle))
    hosts = Hosts(host_names(settings, public_url))
    app = build_http(endpoints, routes, gate, settings.http, hosts, public_url)
    server = HttpServer(app, ending=[live.close_all])
    rules.metrics.read_from(
        "connections",
        lambda: {
            "xmpp": len(face) - websocket.open - bosh.open,
            "websocket": websocket.open,
            "bosh": bosh.open,
            "http": len(server),
        },
    )
    rules.metrics.read_from("http_requests", lambda: server.traffic.statuses.counts)
    rules.metrics.read_from("http_seconds", lambda: server.traffic.seconds)
    return server


def websocket_connect(face: XmppFace, cleartext: bool) -> Any:
    """Makes connections of WebSockets; without TLS only where the listener is a cleartext one."""

    def connect(wire: Wire, address: str, bindings: dict[str, bytes] | None) -> Connection:
        options = face.options(cleartext_ok=cleartext, starttls=False)
        return face.connect(wire, address, bindings, WebSocketFraming(XmlLimits()), options)

    return connect


def bosh_connect(face: XmppFace, cleartext: bool) -> MakeBosh:
    """Makes connections of BOSH sessions; without TLS only where the listener is a cleartext one."""

    def connect(wire: Wire, address: str, bindings: dict[str, bytes] | None, framing: BoshFraming) -> Connection:
        options = face.options(cleartext_ok=cleartext, starttls=False)
        return face.connect(wire, address, bindings, framing, options)

    return connect


def websocket_url(public_url: str) -> str:
    """Where XMPP over WebSocket is served."""
    return "ws" + public_url.removeprefix("http") + "/xmpp-websocket"


def host_names(settings: Settings, public_url: str) -> frozenset[str]:
    """Host headers that are served."""
    names = {*settings.domains, *settings.http.trusted_hosts, urlsplit(public_url).hostname or ""}
    if settings.upload.public_url:
        names.add(urlsplit(settings.upload.public_url).hostname or "")
    if settings.federation.url:
        names.add(urlsplit(settings.federation.url).hostname or "")
    for entry in settings.listen:
        if entry.kind == "https" and is_loopback(entry.host):
            names |= {"localhost", "127.0.0.1", "::1"}
    return frozenset(names)
