"""The JSON API over real services and a real store, on a loopback port, without the rest of the process."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import aiohttp

from client_api.http.administration import AdministrationEndpoints
from client_api.http.amendments import Amendments
from client_api.http.announcements import AnnouncementEndpoints
from client_api.http.app import FIRST_REQUEST, Hosts, HttpServer, build_http
from client_api.http.auth import Auth
from client_api.http.blocks import Blocks
from client_api.http.broadcasts import BroadcastEndpoints
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
from client_api.http.search import Searching
from client_api.http.seeds import Seeds
from client_api.http.server_info import ServerInfoEndpoints
from client_api.http.settings import SettingsEndpoints
from client_api.http.socket import Live, SocketBounds
from client_api.http.wellknown import WellKnown, links
from config.feature_settings import (
    ContactAddressSettings,
    InviteSettings,
    PrivacySettings,
    ProfileSettings,
    PubSubSettings,
    UploadSettings,
)
from config.settings import AccountSettings, ArchiveSettings, HttpSettings, LimitSettings, TokenSettings
from homeserver.app.profiles import build_profiles
from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import Message
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts
from homeserver.services.administration import Administration
from homeserver.services.admission import Admission
from homeserver.services.announcements import Announcements
from homeserver.services.blocking import Blocking
from homeserver.services.broadcasts import Broadcasts
from homeserver.services.client_messages import ClientMessages
from homeserver.services.clock import Clock, SystemClock
from homeserver.services.contacts import Contacts
from homeserver.services.contents import Contents
from homeserver.services.delivery import Delivery
from homeserver.services.directory import Directory
from homeserver.services.enquiries import Enquiries
from homeserver.services.files import Files
from homeserver.services.inbox import Inbox
from homeserver.services.invites import Invites
from homeserver.services.limits import Limits
from homeserver.services.logins import Logins
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.messaging import Messaging
from homeserver.services.notices import Notices
from homeserver.services.presence import Presence
from homeserver.services.privacy import Privacy
from homeserver.services.pubsub.hosts import Hosts as NodeHosts
from homeserver.services.pubsub.nodes import Nodes
from homeserver.services.pubsub.publishing import Publishing
from homeserver.services.pubsub.service import PubSub
from homeserver.services.pubsub.subscriptions import Subscriptions
from homeserver.services.registrations import Registrations
from homeserver.services.reports import Reports
from homeserver.services.retention import Pages
from homeserver.services.roles import Roles
from homeserver.services.router import Router
from homeserver.services.search import Search
from homeserver.services.sessions import Sessions
from homeserver.services.tokens import Tokens
from homeserver.storage.blobs import Blobs
from homeserver.storage.database import Database, open_database
from homeserver.xmpp.contact_addresses import Addresses
from homeserver.xmpp.core_message import Reader, start_tag
from tests.kit.fakes import FakeOutbox, stanza
from tests.kit.server import free_port
from tests.kit.world import Section

DOMAINS = ("a.example", "b.example")
OPEN = AccountSettings(registration="open", scram_iterations=4096)
FREE = LimitSettings(off_on_loopback=True)
HOSTS = frozenset((*DOMAINS, "127.0.0.1", "localhost", "files.example"))
PUBLIC_URL = "https://a.example"


@dataclass
class JsonServer:
    """A running server and a client of it."""

    url: str
    database: Database
    accounts: Accounts
    tokens: Tokens
    mailboxes: Mailboxes
    messaging: Messaging
    sessions: Sessions
    presence: Presence
    contacts: Contacts
    live: Live
    outbox: FakeOutbox
    http: aiohttp.ClientSession
    endpoints: list[object]
    files: Files
    _tokens: dict[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """One request as account ``by``; status and decoded body."""
        sent = dict(headers or {})
        if by is not None:
            sent["Authorization"] = f"Bearer {await self.token(by)}"
        async with self.http.request(method, self.url + path, json=body, headers=sent) as answer:
            return answer.status, (await answer.json(content_type=None)) if await answer.read() else None

    async def token(self, name: str) -> str:
        """An access token of the account, which is made when it is not there."""
        if name not in self._tokens:
            await self.call("POST", "/v1/accounts", {"username": name, "password": "password"})
            status, grant = await self.call("POST", "/v1/sessions", {"username": name, "password": "password"})
            assert status == 201, grant
            self._tokens[name] = grant["access_token"]
        return self._tokens[name]

    async def another_device(self, name: str) -> dict[str, Any]:
        """The grant of a fresh login."""
        await self.token(name)
        _, grant = await self.call("POST", "/v1/sessions", {"username": name, "password": "password"})
        return cast(dict[str, Any], grant)

    async def send(self, by: str, to: Any, text: str, client_id: str) -> int:
        """Send one message; its id."""
        status, made = await self.call("POST", "/v1/messages", {"to": to, "text": text, "client_id": client_id}, by=by)
        assert status in (200, 201), made
        return int(made["message_id"])

    @asynccontextmanager
    async def socket(self, name: str, *, token: str = "", cursor: int | None = None) -> AsyncIterator["Socket"]:
        """A live session of the account, past ``ready``."""
        async with self.http.ws_connect(self.url + "/v1/ws", max_msg_size=0) as raw:
            made = Socket(raw)
            frame: dict[str, Any] = {"type": "auth", "access_token": token or await self.token(name)}
            await made.send(frame if cursor is None else frame | {"cursor": cursor})
            made.ready = await made.take("ready")
            yield made

    async def received(self, sender: str, to: str, text: str, client_id: str) -> None:
        """A message comes from another server."""
        source = JID.parse(sender)
        element = stanza(
            f"<message to='{to}' type='chat' id='{client_id}'><body>{text}</body>"
            f"<origin-id xmlns='urn:xmpp:sid:0' id='{client_id}'/></message>",
            source,
        ).element
        message: Message = Reader(frozenset(DOMAINS)).read(
            element, None, source, JID.parse(to), start_tag(source), False
        )
        await self.messaging.prepare(message.to, source)
        durable: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.messaging.receive(message, lambda stored, error: durable.set_result(stored or error))
        assert not isinstance(await durable, BaseException)


@dataclass
class Socket:
    """One WebSocket, by frames."""

    raw: aiohttp.ClientWebSocketResponse
    ready: dict[str, Any] = field(default_factory=dict)

    async def send(self, frame: Mapping[str, Any]) -> None:
        await self.raw.send_json(frame)

    async def next(self, patience: float = 10) -> dict[str, Any]:
        """The next frame of any type."""
        return cast(dict[str, Any], await self.raw.receive_json(timeout=patience))

    async def take(self, *types: str, patience: float = 10) -> dict[str, Any]:
        """The next frame of one of these types; others are passed over."""
        while True:
            frame = await self.next(patience)
            if frame["type"] in types:
                return frame

    async def texts(self, count: int, patience: float = 10) -> list[str]:
        """The texts of the next messages."""
        return [(await self.take("message", patience=patience))["event"]["text"] for _ in range(count)]

    async def closed(self) -> int:
        """The code with which the server closes."""
        while not self.raw.closed:
            await self.raw.receive(timeout=10)
        return self.raw.close_code or 0


@asynccontextmanager
async def json_server(
    path: Path,
    *,
    accounts: AccountSettings = OPEN,
    limits: LimitSettings = FREE,
    http: HttpSettings | None = None,
    archive: ArchiveSettings = ArchiveSettings(),  # noqa: B008
    invites: InviteSettings = InviteSettings(),  # noqa: B008
    first_request: float = FIRST_REQUEST,
    upload: UploadSettings = UploadSettings(),  # noqa: B008
    clock: Clock | None = None,
) -> AsyncIterator[JsonServer]:
    """Start one over the store at ``path``; start it again for a restart."""
    clock = clock or SystemClock()
    settings = http or HttpSettings(public_url=PUBLIC_URL)
    async with open_database(Section(path)) as database:
        known = Accounts(database, accounts, clock, DOMAINS)
        await known.start()
        tokens = Tokens(database, TokenSettings(), clock, known, PUBLIC_URL)
        await tokens.start()
        served = frozenset(DOMAINS)
        outbox = FakeOutbox()
        router = Router(served, cast(Any, outbox))
        sessions = Sessions(50)
        mailboxes = Mailboxes(database, IdSource(clock.microseconds, database.commit.last_id), clock)
        await mailboxes.load()
        delivery = Delivery(sessions, mailboxes)
        privacy = Privacy(database, sessions, PrivacySettings())
        await privacy.start()
        privacy.has_written = mailboxes.has_written
        messaging = Messaging(router, known, mailboxes, delivery, cast(Any, outbox), privacy)
        admission = Admission(Limits(limits, clock.monotonic))
        contacts = Contacts(database, known, sessions, router, clock, privacy, admission)
        privacy.roster_of = contacts.roster
        presence = Presence(contacts, sessions, router, database, clock, privacy, admission)
        reports = Reports(database, mailboxes, router, admission, clock, PrivacySettings())
        blocking = Blocking(privacy, contacts, presence, sessions, router)
        router.on_local = presence_only(presence, known)
        buckets = Limits(limits, clock.monotonic)
        gate = Gate(tokens, buckets, settings.request_bytes)
        sender = ClientMessages(database, messaging, clock)
        roles = Roles(known)
        await roles.start()
        router.guests = roles.guests
        invitations = Invites(database, known, roles, clock, invites, PUBLIC_URL)
        auth = Auth(known, Registrations(known, invitations, contacts), tokens, buckets)
        pages = Pages(archive)
        messages = Messages(known, mailboxes, sender, Reader(served), pages, limits.stanza_bytes)
        inbox = Inbox(database, mailboxes)
        messaging.on_stored.append(inbox.observe)
        conversations = Conversations(messages, inbox, mailboxes, pages)
        services = LiveServices(sessions, delivery, presence, router)
        bounds = SocketBounds(
            origins=frozenset(settings.cors_origins),
            unsent_bytes=limits.unsent_bytes,
            frame_bytes=limits.stanza_bytes,
        )
        live = Live(gate, tokens, messages, mailboxes, services, buckets, bounds)
        port = free_port("127.0.0.1")
        contents = Contents(Blobs(path.parent / "uploads"))
        files = Files(database, contents, known, upload, clock, upload.public_url or f"http://127.0.0.1:{port}")
        await files.start()
        file_endpoints = FileEndpoints(files)
        stack = AsyncExitStack()
        hosts = NodeHosts(database, known, contacts, {})
        nodes = Nodes(hosts, database, known, clock, PubSubSettings())
        publishing = Publishing(hosts, nodes, database, clock)
        pubsub = PubSub(hosts, nodes, publishing, Subscriptions(hosts, nodes, publishing, database))
        made = build_profiles(
            ProfileSettings(),
            database,
            known,
            sessions,
            presence,
            pubsub,
            privacy,
            router,
            Enquiries(router),
            stack,
        )
        announcements = Announcements(database, messaging, sessions, clock)
        notices = Notices(database, messaging, sessions, clock)
        presence.on_initial.append(notices.greet)
        endpoints: list[object] = [
            auth,
            InviteEndpoints(invitations),
            DirectoryEndpoints(Directory(known, buckets, accounts.directory == "members"), made.profiles),
            AdministrationEndpoints(known, roles, invitations),
            AnnouncementEndpoints(announcements, notices, roles, DOMAINS),
            ServerInfoEndpoints(known, Addresses(ContactAddressSettings(admin=("xmpp:admin@a.example",)))),
            SessionEndpoints(Administration(known, roles, sessions, contacts, Logins(database, clock))),
            messages,
            BroadcastEndpoints(messages, Broadcasts(messaging, buckets, 50)),
            PresenceEndpoints(contacts, sessions, live),
            conversations,
            Amendments(messages, mailboxes),
            Searching(Search(database), messages, mailboxes, pages),
            Seeds(auth, messages, conversations, file_endpoints),
            file_endpoints,
        ]
        endpoints += [Blocks(blocking, reports), PrivacyEndpoints(privacy)]
        endpoints += [ProfileEndpoints(made.profiles, made.lookup), SettingsEndpoints(made.private)]
        landing = Landing(invitations, known, buckets)

        async def ready() -> str | None:
            return None

        async def numbers() -> bytes:
            return b"# EOF\n"

        known_places = WellKnown(links(PUBLIC_URL, PUBLIC_URL + "/federation"), ready, numbers, ("127.0.0.0/8",))
        app = build_http(
            endpoints,
            [*landing.routes(), *live.routes(), *known_places.routes(), *FileRoutes(files, upload.public_url).routes()],
            gate,
            settings,
            Hosts(HOSTS),
            PUBLIC_URL,
        )
        server = HttpServer(app, first_request, ending=[live.close_all])
        await server.start()
        listener = await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", port)
        async with aiohttp.ClientSession() as client:
            yield JsonServer(
                f"http://127.0.0.1:{port}",
                database,
                known,
                tokens,
                mailboxes,
                messaging,
                sessions,
                presence,
                contacts,
                live,
                outbox,
                client,
                endpoints,
                files,
            )
        listener.close()
        await server.stop()
        await stack.aclose()
        await announcements.stop(0)
        await notices.settle()
        await inbox.close()
        await files.close()
        known.close()


def presence_only(presence: Presence, accounts: Accounts) -> Any:
    """What the dispatcher does with presence for local addresses."""

    def take(found: Any) -> None:
        if found.name == "presence" and found.type in ("", "unavailable"):
            account = accounts.peek(found.to.bare)
            if isinstance(account, Account):
                presence.received(account, found)

    return take


def with_limits(**changes: Any) -> LimitSettings:
    """Limits that count on loopback too."""
    return replace(LimitSettings(), **changes)
