"""The composition root: every object of the server, built in order, each from what stands above it."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog
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
from federation.node import FederationNode, open_federation
from homeserver import wiring
from homeserver.domain.ids import IdSource
from homeserver.lifecycle import Lifecycle, Reloader, Startable
from homeserver.listeners import ALPN_HTTP, ALPN_XMPP, Certificates, Listener
from homeserver.protocol import namespaces as ns
from homeserver.protocol.features import StreamOptions
from homeserver.protocol.framing import TcpFraming, WebSocketFraming
from homeserver.protocol.xml import serialise
from homeserver.protocol.xml_input import XmlLimits
from homeserver.services.accounts import Accounts
from homeserver.services.client_messages import ClientMessages
from homeserver.services.clock import SystemClock
from homeserver.services.contacts import Contacts
from homeserver.services.delivery import Delivery
from homeserver.services.limits import Limits
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.messaging import Messaging
from homeserver.services.outbox import Outbox, Patience
from homeserver.services.presence import Presence
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.services.streams import Streams
from homeserver.services.tokens import Tokens
from homeserver.storage.database import open_database
from homeserver.telemetry import Metrics
from homeserver.xmpp import archive, caps, carbons, core_presence, core_roster, disco, queries, registration
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.core_message import Reader
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.feature import collect

log = structlog.get_logger(__name__)
