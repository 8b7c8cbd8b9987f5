"""A client that stays itself across connections, as phones do: XEP-0198 resumption, and resending what was not acknowledged."""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import IQ, MESSAGE, STANZAS
from tests.kit.checker import Key
from tests.kit.raw import LoginFailed, RawClient, StreamClosed
from tests.kit.server import Account, Endpoint

_SM: Final = "{" + ns.STREAM_MANAGEMENT + "}"
_RETRY: Final = 0.1


@dataclass(slots=True)
class Observer:
    """What a client tells about: each is called on the loop as it happens.

    ``message(element)`` gives the key it took from a received message, or None; ``acknowledged(key)``: the server
    acknowledged a sent message; ``confirmed(key)``: our acknowledgement of a received one is surely handled: the server
    has acknowledged something we sent behind it; ``covered(keys)``: it resumed the session with a count that includes
    these received ones, oldest first, and what they are behind was confirmed or covered before.
    """

    message: Callable[[Element], Key | None] = lambda _: None
    acknowledged: Callable[[Key], None] = lambda _: None
    confirmed: Callable[[Key], None] = lambda _: None
    covered: Callable[[list[Key]], None] = lambda _: None


@dataclass(slots=True)
class Counters:
    """How often what happened to one client."""

    connections: int = 0
    resumed: int = 0
    resume_failed: int = 0
    conditions: list[str] = field(default_factory=list)


class ManagedClient:
    """One device of ``account``. ``run`` connects and reconnects until cancelled.

    ``acks`` False: it never acknowledges, not even when asked. ``presence`` True: available as soon as it is bound.
    Reconnecting waits 0.1 s, so that a storm is a storm.
    """

    def __init__(
        self, endpoint: Endpoint, account: Account, observer: Observer, *, acks: bool = True, presence: bool = True
    ) -> None:
        self.account = account
        self.counters = Counters()
        self.online = asyncio.Event()
        self.moved = asyncio.Event()
        self._endpoint = endpoint
        self._observer = observer
        self._acks = acks
        self._presence = presence
        self._client: RawClient | None = None
        self._session = ""
        self._away = 0.0
        self._serial = itertools.count(1)
        self._sent = 0
        self._unacked: deque[tuple[str, Key | None]] = deque()
        self._inbound = 0
        self._told = 0
        self._unconfirmed: deque[tuple[int, Key]] = deque()
        self._proof: tuple[int, int] | None = None  # once so many sent are handled, so many received are confirmed
        self._queries: dict[str, asyncio.Future[Element]] = {}
        self._results: list[Element] = []

    @property
    def waiting(self) -> int:
        """Sent messages that are not acknowledged."""
        return sum(1 for _, key in self._unacked if key is not None)

    async def run(self) -> None:
        """Be connected until cancelled."""
        while True:
            try:
                await self._connection()
            except StreamClosed as end:
                if end.condition:
                    self.counters.conditions.append(end.condition)
            except (OSError, TimeoutError, LoginFailed) as end:
                self.counters.conditions.append(type(end).__name__)
            finally:
                self._lost()
            await asyncio.sleep(_RETRY + self._away)
            self._away = 0.0

    def _lost(self) -> None:
        self.online.clear()
        self._proof = None
        if self._client is not None:
            self._client.abort()
            self._client = None
        for query in self._queries.values():
            if not query.done():
                query.set_exception(StreamClosed())
        self._queries.clear()

    def cut(self, away: float = 0.0) -> None:
        """Drop the TCP connection without a word; `run` comes back ``away`` seconds later."""
        self._away = away
        if self._client is not None:
            self._client.abort()

    async def _connection(self) -> None:
        client = RawClient(self._endpoint)
        try:
            await client.open()
            await client.authenticate(self.account)
            self.counters.connections += 1
            if not (self._session and await self._resume(client)):
                await self._begin(client)
            self._client = client
            self.online.set()
            while True:
                self._take(client, await client.next_forever())
                if client.idle and self._acks and self._told < self._inbound:
                    self._acknowledge(client)
        finally:
            client.abort()

    async def _resume(self, client: RawClient) -> bool:
        client.write(f"<resume xmlns='{ns.STREAM_MANAGEMENT}' h='{self._inbound}' previd='{self._session}'/>")
        answer = await client.next()
        handled = answer.get("h")
        if handled is not None:
            self._handled(int(handled))
        if answer.tag != f"{_SM}resumed":
            self.counters.resume_failed += 1
            return False
        self.counters.resumed += 1
        self._told = self._inbound
        self._observer.covered([key for _, key in self._unconfirmed])
        self._unconfirmed.clear()
        for text, _ in self._unacked:
            client.write(text)
        return True

    async def _begin(self, client: RawClient) -> None:
        """Bind, enable stream management, resend unacknowledged messages in their order with their ids."""
        await client.bind()
        client.write(f"<enable xmlns='{ns.STREAM_MANAGEMENT}' resume='true'/>")
        answer = await client.next()
        while answer.tag in STANZAS:
            self._observer.message(answer)
            answer = await client.next()
        if answer.tag != f"{_SM}enabled":
            raise StreamClosed(text=f"no stream management: {answer.tag}")
        self._session = answer.get("id", "") if answer.get("resume") in ("true", "1") else ""
        again = [entry for entry in self._unacked if entry[1] is not None]
        self._unacked.clear()
        self._unconfirmed.clear()
        self._sent = self._inbound = self._told = 0
        if self._presence:
            self._write(client, "<presence/>", None)
        for text, key in again:
            self._write(client, text, key)

    def _write(self, client: RawClient, text: str, key: Key | None) -> None:
        self._unacked.append((text, key))
        client.write(text)

    def send(self, text: str, key: Key) -> None:
        """Send a stanza now, or as soon as there is a stream; it is resent until it is acknowledged."""
        self._unacked.append((text, key))
        if self._client is not None:
            with contextlib.suppress(StreamClosed):
                self._client.write(text)

    def ask(self) -> None:
        """``<r/>``: please acknowledge."""
        if self._client is not None:
            with contextlib.suppress(StreamClosed):
                self._client.write(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>")

    def _take(self, client: RawClient, found: Element) -> None:
        if found.tag in STANZAS:
            self._inbound += 1
            if found.tag == MESSAGE:
                result = found.find(f"{{{ns.ARCHIVE}}}result")
                if result is not None:
                    self._results.append(result)
                    return
                key = self._observer.message(found)
                if key is not None:
                    self._unconfirmed.append((self._inbound, key))
            elif found.tag == IQ:
                self._answered(client, found)
        elif found.tag == f"{_SM}a":
            self._handled(int(found.get("h", "0")))
        elif found.tag == f"{_SM}r" and self._acks:
            self._acknowledge(client)

    def _answered(self, client: RawClient, iq: Element) -> None:
        found = iq.get("id", "")
        waiting = self._queries.pop(found, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(iq)
        elif iq.get("type") in ("get", "set"):
            self._write(
                client,
                f"<iq type='error' id='{found}' to='{iq.get('from', self._endpoint.domain)}'><error type='cancel'>"
                f"<service-unavailable xmlns='{ns.STANZA_ERRORS}'/></error></iq>",
                None,
            )

    def _acknowledge(self, client: RawClient) -> None:
        """Acknowledge all that came, and send a stanza behind it: once that is acknowledged, so is what it follows.

        An answer to it would not do: it may leave before what the server noted of our acknowledgement is durable.
        """
        self._told = self._inbound
        client.write(f"<a xmlns='{ns.STREAM_MANAGEMENT}' h='{self._inbound}'/>")
        if self._proof is None and self._unconfirmed:
            name = f"confirm{next(self._serial)}"
            self._write(
                client,
                f"<iq type='get' id='{name}' to='{self._endpoint.domain}'><ping xmlns='{ns.PING}'/></iq>",
                None,
            )
            self._proof = (self._sent + len(self._unacked), self._inbound)
            client.write(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>")

    def _handled(self, handled: int) -> None:
        for _ in range(handled - self._sent):
            if not self._unacked:
                raise StreamClosed(text=f"the server acknowledged {handled}, more than was sent")
            _, key = self._unacked.popleft()
            self._sent += 1
            if key is not None:
                self._observer.acknowledged(key)
        if self._proof is not None and self._sent >= self._proof[0]:
            self._confirm(self._proof[1])
            self._proof = None
        self.moved.set()

    def _confirm(self, handled: int) -> None:
        while self._unconfirmed and self._unconfirmed[0][0] <= handled:
            self._observer.confirmed(self._unconfirmed.popleft()[1])

    async def query(self, content: str, timeout: float = 30.0) -> Element:
        """An IQ of type set to the own account with ``content``; its answer."""
        if self._client is None:
            raise StreamClosed
        name = f"query{next(self._serial)}"
        future: asyncio.Future[Element] = asyncio.get_running_loop().create_future()
        self._queries[name] = future
        self._write(self._client, f"<iq type='set' id='{name}'>{content}</iq>", None)
        async with asyncio.timeout(timeout):
            return await future

    async def archive(self, page: int = 100) -> list[tuple[str, Key]]:
        """The whole own archive, oldest first (XEP-0313 s4): (archive id, key) of storm messages.

        RuntimeError if the server refuses or a page does not advance.
        """
        entries: list[tuple[str, Key]] = []
        last = ""
        while True:
            after = f"<after>{last}</after>" if last else ""
            self._results = []
            answer = await self.query(
                f"<query xmlns='{ns.ARCHIVE}'><set xmlns='{ns.RESULT_SET}'><max>{page}</max>{after}</set></query>"
            )
            fin = answer.find(f"{{{ns.ARCHIVE}}}fin")
            if fin is None:
                raise RuntimeError(f"no archive: {[part.tag for part in answer.iter()]}")
            for result in self._results:
                text = result.findtext(f"{{{ns.FORWARD}}}forwarded/{MESSAGE}/{{{ns.CLIENT}}}body")
                key = Key.of_body(text or "")
                if key is not None:
                    entries.append((result.get("id", ""), key))
            if fin.get("complete") in ("true", "1") or not self._results:
                return entries
            following = self._results[-1].get("id", "")
            if following == last:
                raise RuntimeError(f"the page after {last} ends with {last}")
            last = following
