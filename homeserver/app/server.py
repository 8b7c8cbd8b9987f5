"""The composition root: every object of the server, built in order, each from what stands above it."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from client_api.http.wellknown import WellKnown
from client_api.xmpp.bosh import PATH as BOSH_PATH
from client_api.xmpp.component import ComponentFace
from config.settings import Settings
from federation.arrivals import Arrivals
from federation.key_operations import Verbs
from federation.node import open_federation
from homeserver.app.http import build_json, websocket_url
from homeserver.app.ports import build_listeners
from homeserver.app.rules import Rules, build_rules
from homeserver.app.xmpp import Xmpp, build_xmpp
from homeserver.lifecycle import Lifecycle, Reloader, Startable, Sweeper
from homeserver.listeners import Certificates
from homeserver.protocol import namespaces as ns
from homeserver.services.client_messages import ClientMessages
from homeserver.services.control import Control
from homeserver.services.displayed import DisplayedNotes
from homeserver.services.health import Health
from homeserver.services.names import services_below
from homeserver.services.operations import Operations
from homeserver.services.reports import ReportVerbs
from homeserver.xmpp.component_stanzas import ComponentStanzas


async def build(
    settings: Settings, stack: AsyncExitStack, lifecycle: Lifecycle, reloader: Reloader
) -> Sequence[Startable]:
    """Build the server; what is returned is started in order and stopped in reverse."""
    public_url = settings.http.public_url or f"https://{settings.domains[0]}"
    rules = await build_rules(settings, public_url, stack)
    xmpp = build_xmpp(settings, rules)
    reloader.subscribe(partial(take_over, rules, xmpp))
    rules.pubsub.on_event.append(DisplayedNotes(rules.inbox, rules.mailboxes, rules.accounts))
    components = ComponentFace(
        rules.components, ComponentStanzas(xmpp.dispatcher, rules.messaging, rules.router), settings.limits
    )
    parts: list[Startable] = [rules.search, xmpp.face, components]
    routes: list[web.RouteDef] = []
    verbs: Verbs = {}
    chores: list[Callable[[], Awaitable[object]]] = [
        rules.streams.expire,
        rules.tokens.purge,
        rules.invites.purge,
        rules.departures.purge,
    ]
    links = [(ns.XMPP_WEBSOCKET_LINK, websocket_url(public_url)), (ns.BOSH_LINK, public_url.rstrip("/") + BOSH_PATH)]
    if settings.federation.enabled:
        base = settings.federation.url or f"{public_url}/federation/v1"
        arrivals = Arrivals(rules.messaging, xmpp.dispatcher, rules.router)
        node = await open_federation(
            settings.federation,
            {domain: services_below(settings, domain) for domain in settings.domains},
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
    chores.append(rules.office.announcements.resume)
    rules.office.shutdown.stop = lifecycle.stop
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
    told = ReportVerbs(rules.database, rules.clock)
    report_verbs: Verbs = {"report.list": told.list, "report.show": told.show, "report.resolve": told.resolve}

    async def expire_items() -> None:
        await rules.pubsub.hosts.expire(rules.clock.now())

    chores.append(expire_items)
    operations = Operations(rules.accounts, rules.invites, rules.outbox, {**verbs, **report_verbs})
    control = Control(settings.data_dir, operations)
    chores += [client_messages.purge, rules.retention.purge, rules.reports.purge, rules.files.disposal.purge]
    sweeper = Sweeper(*chores)
    parts = [sweeper, rules.office.announcements, *parts]
    return [*parts, https, control, *build_listeners(settings, xmpp.face, components, https, certificates)]


def take_over(rules: Rules, xmpp: Xmpp, new: Settings) -> None:
    """After SIGHUP: the keys that are marked reloadable, less those of federation, certificates and the log."""
    rules.accounts.reload(new.accounts)
    rules.invites.reload(new.invites)
    rules.limits.reload(new.limits)
    rules.sessions.limit = new.limits.sessions_per_account
    rules.pages.reload(new.archive)
    rules.retention.reload(new.archive)
    rules.files.reload(new.upload)
    rules.app_servers.reload(new.push)
    rules.push_notifications.reload(new.push)
    rules.external_services.reload(new.external_service)
    xmpp.face.reload(new.limits, rules.registrations.is_possible)
