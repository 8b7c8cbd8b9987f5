"""Connections of external components (XEP-0114): bytes to stanzas, and what waits for them to bytes."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import Final

import structlog

from client_api.xmpp.connection import Wire
from config.settings import LimitSettings
from homeserver.protocol import namespaces as ns
from homeserver.protocol.component_stream import Arrived, Closed, ComponentStream, Event, Proved
from homeserver.protocol.stanza import IQ, Stanza
from homeserver.protocol.xml import Element, element, serialise
from homeserver.protocol.xml_input import XmlLimits
from homeserver.services.components import Component, Components
from homeserver.xmpp.component_stanzas import ComponentStanzas

log = structlog.get_logger(__name__)

PING_SECONDS: Final = 60.0
"""Within that time a component answers a ping, or it counts as gone."""
DOUBT_SECONDS: Final = 10.0
"""The same while another connection asks for its place."""
MAX_OPEN: Final = 1000
"""Messages of a component that are not durable yet; beyond, it is not read."""
MAX_STRANGERS: Final = 100
CLOSING_SECONDS: Final = 3.0


class ComponentConnection:
    """One connection; a `homeserver.services.components.Link` once the component is accepted."""

    def __init__(self, wire: Wire, address: str, stream: ComponentStream, face: "ComponentFace") -> None:
        self._wire = wire
        self._address = address
        self._stream = stream
        self._face = face
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        self._open = 0
        self._pings: dict[str, asyncio.Future[bool]] = {}
        self._is_flushing = False
        self._is_lost = False
        self._timer: asyncio.TimerHandle | None = None
        self.component: Component | None = None
        deadline = stream.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._expired)

    # --- from the wire ----------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes of the component."""
        # Answers to pings are taken at once: they tell what was read, whatever else still has to be done.
        self._events.extend(event for event in self._stream.receive(data) if not self._is_answer(event))
        if self._task is None:
            self._handle()

    def lost(self) -> None:
        """The wire is gone."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._events.clear()
        self._leave()
        self._face.closed(self)

    def congested(self, is_congested: bool) -> None:
        """Nothing to do: what waits unsent is bounded in `flush`."""

    # --- Link -------------------------------------------------------------------------------------------------------

    def write(self, stanza: bytes) -> None:
        """Send a stanza; all of one turn of the loop leave together."""
        if self.component is None:
            return
        self._stream.send(stanza)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self.flush)

    async def confirmed(self) -> bool:
        """Ping, and wait for any answer (XEP-0199 s4.2): what was written before was read then."""
        return await self._pinged(PING_SECONDS)

    async def is_alive(self) -> bool:
        """The same in less time, because somebody else waits for its place."""
        return await self._pinged(DOUBT_SECONDS)

    async def _pinged(self, seconds: float) -> bool:
        component = self.component
        if component is None:
            return False
        id_ = secrets.token_urlsafe(12)
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._pings[id_] = answer
        attributes = {"type": "get", "id": id_, "from": component.terms.origin, "to": component.terms.domain}
        self.write(serialise(element(ns.CLIENT, "iq", attributes, Element(f"{{{ns.PING}}}ping"))).encode())
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            log.warning("component answers no ping", component=component.terms.domain)
            self.end("connection-timeout", "a ping was not answered")
            return False
        finally:
            self._pings.pop(id_, None)

    # --- the pump ---------------------------------------------------------------------------------------------------

    def end(self, condition: str | None, text: str = "") -> None:
        """Close the stream, with an error if ``condition`` is given."""
        self._stream.close(condition, text)
        self._events.clear()
        self._leave()
        self.flush()

    def abort(self) -> None:
        """Close at once."""
        self._wire.abort()

    def flush(self) -> None:
        """Write what the stream has to say."""
        self._is_flushing = False
        if self._is_lost:
            return
        data = self._stream.data_to_send()
        if data:
            self._wire.write(data)
            if self._wire.unsent() > self._face.unsent_bytes:
                log.warning("component does not read", address=self._address)
                self._wire.abort()
                return
        if self._stream.is_closed:
            self._wire.close()

    def _handle(self) -> None:
        while self._events:
            waiting = self._take(self._events.popleft())
            if waiting is not None:
                self._wire.pause_reading()
                self.flush()
                self._task = self._loop.create_task(self._wait(waiting))
                return
        self.flush()

    async def _wait(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception:
            log.exception("handling input of a component failed", address=self._address)
            self._task = None
            self.end("internal-server-error")
            return
        self._task = None
        self._handle()
        if self._task is None and not self._is_lost and self._open < MAX_OPEN:
            self._wire.resume_reading()

    def _take(self, event: Event) -> Awaitable[None] | None:
        if isinstance(event, Arrived):
            return self._stanza(event)
        if isinstance(event, Proved):
            return self._proved(event.domain)
        if isinstance(event, Closed):
            if event.condition is not None:
                log.info("component stream failed", address=self._address, condition=event.condition)
            self._leave()
        return None

    def _proved(self, domain: str) -> Awaitable[None] | None:
        component = self._face.components.find(domain)
        if component is None:
            self.end("host-unknown")
            return None
        holder = component.link
        if isinstance(holder, ComponentConnection):
            return self._displace(component, holder)
        self._accept(component)
        return None

    async def _displace(self, component: Component, holder: "ComponentConnection") -> None:
        """A domain has one connection. Whoever has it keeps it, unless it does not answer any more; one that answers no
        pings cannot be asked, and makes room."""
        if not component.terms.confirms:
            holder.end("conflict", "another connection took its place")
        elif await holder.is_alive():
            self.end("conflict", "this component is connected already")
            return
        self._accept(component)

    def _accept(self, component: Component) -> None:
        if component.link is not None or self._is_lost:
            self.end("conflict", "this component is connected already")
            return
        if self._timer is not None:
            self._timer.cancel()
        self._stream.accept()
        self.component = component
        self._face.known(self)
        log.info("component connected", component=component.terms.domain, address=self._address)
        self.flush()
        component.connected(self)

    def _stanza(self, event: Arrived) -> Awaitable[None] | None:
        self._open += 1
        if self._open == MAX_OPEN:
            self._wire.pause_reading()
        return self._face.stanzas.take(Stanza(event.element, event.sender, event.to), self._done)

    def _is_answer(self, event: Event) -> bool:
        """Whether it answers a ping, whatever it answers: the component itself has read that far."""
        if not isinstance(event, Arrived) or event.element.tag != IQ or self.component is None:
            return False
        answer = self._pings.get(event.element.get("id", ""))
        terms = self.component.terms
        if (
            answer is None
            or event.element.get("type") not in ("result", "error")
            or str(event.sender) != terms.domain
            or str(event.to) != terms.origin
        ):
            return False
        if not answer.done():
            answer.set_result(True)
        return True

    def _done(self) -> None:
        self._open -= 1
        if self._open == MAX_OPEN - 1 and self._task is None and not self._is_lost:
            self._wire.resume_reading()

    def _leave(self) -> None:
        component, self.component = self.component, None
        for answer in self._pings.values():
            if not answer.done():
                answer.set_result(False)
        if component is not None:
            log.info("component gone", component=component.terms.domain)
            component.gone(self)

    def _expired(self) -> None:
        self._timer = None
        self._events.extend(self._stream.check_deadline(self._loop.time()))
        if self._task is None:
            self._handle()


class ComponentFace:
    """Makes connections of components, knows them all, and ends them when the process stops."""

    def __init__(self, components: Components, stanzas: ComponentStanzas, limits: LimitSettings) -> None:
        self.components = components
        self.stanzas = stanzas
        self.unsent_bytes = limits.unsent_bytes
        self._limits = XmlLimits(max_bytes=limits.stanza_bytes)
        self._open: set[ComponentConnection] = set()
        self._strangers: set[ComponentConnection] = set()
        self._emptied = asyncio.Event()

    def connect(self, wire: Wire, address: str, _bindings: dict[str, bytes] | None) -> ComponentConnection:
        """A new connection."""
        loop = asyncio.get_running_loop()
        stream = ComponentStream(self.components.secret, self._limits, loop.time())
        connection = ComponentConnection(wire, address, stream, self)
        self._open.add(connection)
        self._strangers.add(connection)
        if len(self._strangers) > MAX_STRANGERS:
            loop.call_soon(connection.end, "policy-violation", "Too many connections without a handshake")
        return connection

    def known(self, connection: ComponentConnection) -> None:
        """It proved who it is."""
        self._strangers.discard(connection)

    def closed(self, connection: ComponentConnection) -> None:
        """Its wire is gone."""
        self._open.discard(connection)
        self._strangers.discard(connection)
        if not self._open:
            self._emptied.set()

    async def start(self) -> None:
        """Nothing to begin; listeners bring the connections."""

    async def stop(self, deadline: float) -> None:
        """Tell every component why; what it has not read waits."""
        end_all(self._open)
        await self.components.close()
        if self._open:
            self._emptied.clear()
            try:
                async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + CLOSING_SECONDS)):
                    await self._emptied.wait()
            except TimeoutError:
                for connection in list(self._open):
                    connection.abort()


def end_all(connections: Iterable[ComponentConnection]) -> None:
    """Say that the server stops."""
    for connection in list(connections):
        connection.end("system-shutdown", "The server stops or restarts")
