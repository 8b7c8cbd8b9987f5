"""The XMPP face: makes connections, knows them all, and ends them when the process stops."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Final

import structlog

from client_api.xmpp.binding import Binding
from client_api.xmpp.connection import Connection, Wire
from client_api.xmpp.negotiation import Peer
from client_api.xmpp.resumption import Resumption
from client_api.xmpp.stanzas import Stanzas
from client_api.xmpp.tcp import is_loopback
from config.settings import LimitSettings
from homeserver.protocol.c2s import ServerStream
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import Framing
from homeserver.protocol.xml_input import XmlLimits
from homeserver.services.limits import address_key

log = structlog.get_logger(__name__)

CLOSING_SECONDS: Final = 3.0


class XmppFace:
    """Shared by all listeners. ``options`` is what a listener with TLS offers."""

    def __init__(
        self, options: StreamOptions, limits: LimitSettings, binding: Binding, stanzas: Stanzas, resumption: Resumption
    ) -> None:
        self._options = options
        self._settings = limits
        self._registration = options.registration
        self._binding = binding
        self._stanzas = stanzas
        self._resumption = resumption
        self._limits = StreamLimits(
            before_login=XmlLimits(max_bytes=limits.unauthenticated_bytes),
            after_login=XmlLimits(max_bytes=limits.stanza_bytes),
            login_seconds=limits.unauthenticated_time,
            idle_seconds=limits.idle_time,
        )
        self._open: set[Connection] = set()
        self._strangers: Counter[str] = Counter()
        self._emptied = asyncio.Event()

    def options(self, cleartext_ok: bool, starttls: bool) -> StreamOptions:
        """What one listener offers."""
        return replace(self._options, cleartext_ok=cleartext_ok, starttls=starttls, tls_required=not cleartext_ok)

    def connect(
        self, wire: Wire, address: str, bindings: dict[str, bytes] | None, framing: Framing, options: StreamOptions
    ) -> Connection:
        """A new connection. ``bindings`` are those of TLS that is there already, None without TLS."""
        secure = bindings is not None
        if options.registration is not self._registration:
            options = replace(options, registration=self._registration, invitations=self._registration)
        loop = asyncio.get_running_loop()
        stream = ServerStream(framing, self._limits, options, loop.time(), secure=secure, bindings=bindings)
        peer = Peer(address, secure)
        connection = Connection(
            wire, peer, stream, self._binding, self._stanzas, self._settings.unsent_bytes, self._closed, self._known
        )
        self._open.add(connection)
        key = address_key(address)
        self._strangers[key] += 1
        is_exempt = self._settings.off_on_loopback and is_loopback(address)
        if self._strangers[key] > self._settings.unauthenticated_per_address and not is_exempt:
            # Not at once: aiofastnet begins to read after this, and would read from whoever gets the closed descriptor.
            loop.call_soon(connection.end, "policy-violation", "Too many connections that have not logged in")
        return connection

    def reload(self, limits: LimitSettings, registration: bool) -> None:
        """Take over other bounds, and whether registration is offered, for connections that come from now on."""
        self._settings = limits
        self._registration = registration

    async def start(self) -> None:
        """Nothing to begin; listeners bring the connections."""

    async def stop(self, deadline: float) -> None:
        """Tell every client why (RFC 6120 s4.9.3.23); sessions that can be resumed stay resumable."""
        for connection in list(self._open):
            session = connection.session
            if session is not None and session.stream is not None:
                self._resumption.sleep(session)
                connection.session = None
                session.link = None
            connection.end("system-shutdown", "The server stops or restarts")
        if self._open:
            try:
                async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + CLOSING_SECONDS)):
                    await self._emptied.wait()
            except TimeoutError:
                for connection in list(self._open):
                    connection.wire.abort()
        self._resumption.stop()

    def __len__(self) -> int:
        return len(self._open)

    def _closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.account is None:
            self._known(connection)
        if not self._open:
            self._emptied.set()

    def _known(self, connection: Connection) -> None:
        """The connection is no stranger any more: it logged in, or it is gone."""
        key = address_key(connection.peer.address)
        self._strangers[key] -= 1
        if self._strangers[key] <= 0:
            del self._strangers[key]
