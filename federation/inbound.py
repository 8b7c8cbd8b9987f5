"""The single gate for stanzas from other servers.

Whatever way they came, the transport has proved who the origin is; this decides what may be done with them. Every
stanza's sender must be of a domain the origin speaks for and its recipient of one that is ours. What has a number is
taken exactly once: the new stanzas of a batch and the number they reach are stored in one transaction, and the answer
is made when that is durable. A stanza that cannot be processed is noted as rejected and does not hold up the others.

Subscription stanzas are the exception to "one transaction": they change the roster in transactions of their own. They
are applied in their place in the batch, may be applied again after a crash (which changes nothing), and the number is
stored behind each of them.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from federation.policy import Limits
from homeserver.domain.federation import Reception, Verdict
from homeserver.protocol import namespaces as ns
from homeserver.protocol import problems
from homeserver.protocol.envelope import Answer, Batch, Item, Rejection
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.parser import StreamEnd, StreamHeader, StreamParser, XmlFault, XmlLimits
from homeserver.protocol.problems import Refusal
from homeserver.protocol.stanza import IQ, MESSAGE, PRESENCE, STANZAS, Stanza
from homeserver.services.clock import Clock
from homeserver.services.store import Store
from homeserver.storage import peers as storage

log = structlog.get_logger(__name__)

SUBSCRIPTIONS: Final = frozenset(("subscribe", "subscribed", "unsubscribe", "unsubscribed"))
MAX_PAIRS: Final = 10_000
REPEATS_KEPT: Final = 30 * 86400.0
"""Seconds for which ids are kept; longer than any origin may keep a stanza waiting."""
WAITING_PER_PAIR: Final = 3
_HEADER: Final = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>".encode()
_PLAIN_START: Final = re.compile(rb"<message(?: (?!xmlns)[a-z:]+=(?:'[^'<>&]*'|\"[^\"<>&]*\"))*>")


class InboundSink(Protocol):
    """What takes the stanzas that passed the gate."""

    async def prepare(self, messages: Sequence[Stanza]) -> None:
        """Make ready what `message` needs to know for these."""

    def message(self, origin: str, stanza: Stanza, payload: bytes | None) -> None:
        """Take a durable message: queue all it changes into the open batch of the group commit, without waiting.

        ``payload`` is the stanza's bytes where they may be stored and relayed as they are, else None.
        """

    async def subscription(self, origin: str, stanza: Stanza) -> None:
        """Apply a subscription stanza durably; may come twice, the second time without effect."""

    def passing(self, origin: str, stanza: Stanza) -> Awaitable[None] | None:
        """Take presence, an IQ or a message that is not stored."""


@dataclass(slots=True)
class Origin:
    """Who speaks, proved: ``domain``, and ``names`` that it speaks for (itself included)."""

    domain: str
    names: Collection[str]


@dataclass(slots=True)
class _Pair:
    reception: Reception
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    passing: "asyncio.Queue[tuple[Origin, Stanza]]" = field(default_factory=lambda: asyncio.Queue(2000))
    worker: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Part:
    """New numbers that are stored together."""

    entries: list[tuple[int, str]] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    messages: list[tuple[int, Stanza, bytes | None]] = field(default_factory=list)
    subscription: Stanza | None = None


class StanzaRejected(Exception):
    """It cannot be processed as a stanza; the text is the reason that its origin is told."""


class StanzaReader:
    """Reads stanza texts one by one; a broken one does not harm the next."""

    __slots__ = ("_limits", "_parser")

    def __init__(self, limits: Limits) -> None:
        self._limits = XmlLimits(max_bytes=limits.stanza_bytes, max_depth=limits.stanza_depth)
        self._parser: StreamParser | None = None

    def read(self, text: bytes) -> Stanza:
        """Raises `StanzaRejected`."""
        if len(text) > self._limits.max_bytes:
            raise StanzaRejected("too-large")
        if self._parser is None:
            self._parser = StreamParser(self._limits)
            self._parser.feed(_HEADER)
        parser, self._parser = self._parser, None
        try:
            items = parser.feed(text)
        except XmlFault as fault:
            raise StanzaRejected("not-well-formed" if fault.condition != "policy-violation" else "too-large") from fault
        if len(items) != 1 or not parser.is_between_stanzas or isinstance(items[0], StreamHeader | StreamEnd):
            raise StanzaRejected("not-a-stanza")
        self._parser = parser
        found = items[0][0]
        if found.tag not in STANZAS:
            raise StanzaRejected("not-a-stanza")
        try:
            return Stanza(found, JID.parse(found.get("from", "")), JID.parse(found.get("to", "")))
        except InvalidJID as error:
            raise StanzaRejected("not-an-address") from error


class Inbound:
    """The gate. ``owner`` tells which hosted domain speaks for a name of ours (None: it is not ours)."""

    def __init__(
        self,
        store: Store,
        sink: InboundSink,
        owner: Callable[[str], str | None],
        limits: Limits,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        self._store = store
        self._sink = sink
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._count = count
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self._loading: dict[tuple[str, str], asyncio.Task[Reception]] = {}
        self._reader = StanzaReader(limits)

    async def accept(self, origin: Origin, destination: str, batch: Batch, fresh: bool) -> Answer:
        """Take a batch of an authenticated origin; returns when its durable part is stored.

        ``fresh`` is False for a request that may be a repeat from before our start: its passing part is ignored.
        Raises `Refusal`.
        """
        pair = await self._pair(origin.domain, destination)
        if pair.waiting >= WAITING_PER_PAIR:
            raise Refusal(problems.TOO_MANY, "one transaction at a time")
        pair.waiting += 1
        try:
            async with pair.lock:
                await self._durable(pair.reception, origin, destination, batch)
                answer = self._answer(pair.reception, batch)
        finally:
            pair.waiting -= 1
        if fresh and batch.passing:
            self._pass(pair, origin, destination, batch.passing)
        return answer

    async def holds(self, origin: str, destination: str, epoch: str) -> Answer:
        """What an answer to that origin would say, without taking anything."""
        pair = await self._pair(origin, destination)
        return self._answer(pair.reception, Batch(origin, destination, epoch))

    async def forget(self) -> int:
        """Forget ids that no origin can send again; call it daily. Returns how many batches."""
        gone: int = await self._store.write(storage.forget_batches, self._clock.now() - REPEATS_KEPT)
        return gone

    async def close(self) -> None:
        """Stop handling passing stanzas."""
        workers = [pair.worker for pair in self._pairs.values() if pair.worker is not None]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    # --- durable ----------------------------------------------------------------------------------------------------

    async def _durable(self, reception: Reception, origin: Origin, destination: str, batch: Batch) -> None:
        entries = [(item.seq, item.id or "") for item in batch.stanzas]
        verdict, known = reception.examine(batch.epoch, entries)
        if verdict is not Verdict.TAKE:
            self._count("federation_numbers_" + verdict.value)
            gap = verdict is Verdict.GAP
            raise Refusal(
                problems.NUMBERS if gap else problems.RESTORED,
                "numbers do not follow" if gap else "known numbers came with other ids, or in an ended epoch",
                epoch=reception.epoch,
                accepted=reception.highest,
                expected=reception.expected(batch.epoch) if gap else None,
            )
        new = batch.stanzas[known:]
        if not new:
            return
        if reception.epoch is not None and batch.epoch != reception.epoch:
            self._count("federation_epoch_changed")
            log.warning(
                "a peer began a new epoch: it or we were restored", origin=origin.domain, destination=destination
            )
        repeats: set[str] = set()
        if batch.previous_epoch is not None:
            wanted = [item.id for item in new if item.id]
            repeats = await self._store.read(storage.known_ids, origin.domain, destination, wanted)
        parts = self._parts(origin, destination, new, repeats)
        messages = [stanza for part in parts for _, stanza, _ in part.messages]
        if messages:
            await self._sink.prepare(messages)
        for part in parts:
            if part.subscription is not None:
                await self._apply(origin, part)
            await self._commit(reception, origin, destination, batch.epoch, part)

    def _parts(self, origin: Origin, destination: str, items: list[Item], repeats: set[str]) -> list[_Part]:
        """Cut new items so that a subscription stanza is the first of its part."""
        parts = [_Part()]
        for item in items:
            part = parts[-1]
            stanza: Stanza | None = None
            if item.xml is not None and item.id not in repeats:
                text = item.xml.encode()
                try:
                    stanza = self._checked(origin, destination, text, durable=True)
                except StanzaRejected as error:
                    part.rejected[item.seq] = str(error)
                    self._count("federation_stanza_rejected")
                    log.warning("stanza of a peer rejected", origin=origin.domain, reason=str(error), id=item.id)
            if stanza is not None and stanza.name == "presence":
                if part.entries:
                    parts.append(part := _Part())
                part.subscription = stanza
            elif stanza is not None:
                part.messages.append((item.seq, stanza, text if relayable(stanza, text) else None))
            part.entries.append((item.seq, item.id or ""))
        return parts

    async def _apply(self, origin: Origin, part: _Part) -> None:
        if part.subscription is None:
            return
        try:
            await self._sink.subscription(origin.domain, part.subscription)
        except Exception:
            self._count("federation_stanza_failed")
            log.exception("subscription stanza of a peer failed", origin=origin.domain)
            part.rejected[part.entries[0][0]] = "not-processed"

    async def _commit(self, reception: Reception, origin: Origin, destination: str, epoch: str, part: _Part) -> None:
        for number, stanza, payload in part.messages:
            try:
                self._sink.message(origin.domain, stanza, payload)
            except Exception:
                # One stanza that trips over a fault of ours must not stop everything that stands behind it.
                self._count("federation_stanza_failed")
                log.exception("message of a peer failed", origin=origin.domain)
                part.rejected[number] = "not-processed"
        first = part.entries[0][0]
        held = reception.still_rejected(first) if epoch == reception.epoch else {}
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then(error: BaseException | None, /) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(Refusal(problems.UNAVAILABLE, "could not be stored"))

        self._store.commit.also(
            storage.save_reception,
            origin.domain,
            destination,
            epoch,
            part.entries[-1][0],
            [name for _, name in part.entries],
            {**held, **part.rejected},
            self._clock.now(),
            then=then,
        )
        # Shielded: if the peer hangs up now the commit goes on, and memory must follow what is on disk.
        await asyncio.shield(self._advance(done, reception, epoch, part))

    async def _advance(self, done: "asyncio.Future[None]", reception: Reception, epoch: str, part: _Part) -> None:
        await done
        reception.take(epoch, part.entries, part.rejected)

    def _answer(self, reception: Reception, batch: Batch) -> Answer:
        first = batch.stanzas[0].seq if batch.stanzas else None
        reception.rejected = reception.still_rejected(first)
        rejected = [Rejection(number, why) for number, why in sorted(reception.rejected.items())]
        if reception.epoch is None:
            return Answer(batch.epoch, 0)
        return Answer(reception.epoch, reception.highest, rejected)

    def _checked(self, origin: Origin, destination: str, text: bytes, durable: bool) -> Stanza:
        """Parse a stanza and check that its origin may send it. Raises `StanzaRejected`."""
        stanza = self._reader.read(text)
        if stanza.sender.domain not in origin.names:
            self._count("federation_forged_from")
            raise StanzaRejected("from-not-yours")
        if stanza.to is None or self._owner(stanza.to.domain) != destination:
            raise StanzaRejected("to-not-mine")
        if durable and not is_durable(stanza):
            raise StanzaRejected("not-durable")
        return stanza

    # --- passing ----------------------------------------------------------------------------------------------------

    def _pass(self, pair: _Pair, origin: Origin, destination: str, texts: list[str]) -> None:
        for text in texts[: self._limits.passing_stanzas]:
            try:
                stanza = self._checked(origin, destination, text.encode(), durable=False)
                pair.passing.put_nowait((origin, stanza))
            except StanzaRejected as error:
                log.info("passing stanza of a peer dropped", origin=origin.domain, reason=str(error))
            except asyncio.QueueFull:
                self._count("federation_passing_dropped")
                break
        if pair.worker is None and not pair.passing.empty():
            pair.worker = asyncio.create_task(self._hand_over(pair))

    async def _hand_over(self, pair: _Pair) -> None:
        try:
            while not pair.passing.empty():
                origin, stanza = pair.passing.get_nowait()
                try:
                    waiting = self._sink.passing(origin.domain, stanza)
                    if waiting is not None:
                        await waiting
                except Exception:
                    self._count("federation_stanza_failed")
                    log.exception("passing stanza of a peer failed", origin=origin.domain)
        finally:
            pair.worker = None

    # --- state ------------------------------------------------------------------------------------------------------

    async def _pair(self, origin: str, destination: str) -> _Pair:
        key = (origin, destination)
        found = self._pairs.get(key)
        if found is not None:
            self._pairs.move_to_end(key)
            return found
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load(origin, destination))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        reception = await asyncio.shield(task)
        found = self._pairs.setdefault(key, _Pair(reception))
        if len(self._pairs) > MAX_PAIRS:
            idle = next((name for name, pair in self._pairs.items() if not pair.waiting and pair.worker is None), None)
            if idle is not None and idle != key:
                del self._pairs[idle]
        return found

    async def _load(self, origin: str, destination: str) -> Reception:
        found: Reception = await self._store.read(storage.reception, origin, destination)
        return found


def is_durable(stanza: Stanza) -> bool:
    """Whether a stanza may stand in the durable lane."""
    if stanza.element.tag == PRESENCE:
        return stanza.type in SUBSCRIPTIONS
    return stanza.element.tag != IQ


def relayable(stanza: Stanza, text: bytes) -> bool:
    """Whether ``text`` means the same in any ``jabber:client`` stream and names its addresses as we prepared them."""
    attributes = stanza.element.attrib
    return (
        stanza.element.tag == MESSAGE
        and attributes["from"] == str(stanza.sender)
        and attributes["to"] == str(stanza.to)
        and b"stream:" not in text
        and b"jabber:client" not in text
        and b"<![CDATA[" not in text
        and text.endswith(b"</message>")
        and _PLAIN_START.match(text) is not None
    )
