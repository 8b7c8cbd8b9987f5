"""Which notifications a client wants, learnt from its entity capabilities (XEP-0115, XEP-0060 s9.2).

Clients are few programs and many people: what one answers for a hash is kept for all that advertise it, over restarts
too, if the hash proves the answer. Unproven answers are for who gave them. However many advertise a hash that nobody has
explained yet, one is asked, and the next when that one does not answer; so nobody can keep an answer from the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from homeserver.domain.errors import DomainError
from homeserver.protocol import caps
from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import Advertised, Answer
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import element
from homeserver.storage import entity_caps as storage

if TYPE_CHECKING:
    from homeserver.services.clock import Clock
    from homeserver.services.enquiries import Enquiries
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

MAX_KNOWN: Final = 4096
MAX_QUESTIONS: Final = 1000
MAX_WAITING: Final = 1000
"""Clients that wait for the answer to one question; others learn nothing."""
MAX_OF_ONE: Final = 20
"""Questions that one account may raise at a time."""
HEDGE: Final = 2.0
"""Seconds after which the next one is asked too."""
MAX_ASKED: Final = 4
"""How many are asked at a time about one hash."""
TIMEOUT: Final = 15.0

Interests = frozenset[str]
Then = Callable[[Interests], None]


class _Client(NamedTuple):
    """A client that advertised something, in whose name it is asked, and who wants to know."""

    asker: JID
    jid: JID
    said: Advertised
    then: Then


class EntityCaps:
    """Answers of clients, by hash function and hash. ``load`` brings back those of earlier processes."""

    def __init__(self, enquiries: Enquiries, database: Database, clock: Clock) -> None:
        self._enquiries = enquiries
        self._database = database
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Interests] = OrderedDict()
        self._waiting: dict[object, deque[_Client]] = {}
        self._raised: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Take over what earlier processes learnt; the oldest beyond the bound are forgotten."""
        for algorithm, ver, interests in await self._database.write(storage.load, MAX_KNOWN):
            self._known[algorithm, ver] = frozenset(interests)

    def known(self, said: Advertised) -> Interests | None:
        """The nodes of interest of all who advertise this; None where that is not known."""
        if not said.is_verifiable:
            return None
        key = (said.algorithm, said.ver)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def learn(self, asker: JID, jid: JID, said: Advertised, then: Then) -> None:
        """Tell ``then`` the interests of the client at the full ``jid``: at once, or when it has answered ``asker``.

        Nothing is told where no usable answer comes.
        """
        found = self.known(said)
        if found is not None:
            then(found)
            return
        key: object = (said.algorithm, said.ver) if said.is_verifiable else (jid, said)
        client = _Client(asker, jid, said, then)
        waiting = self._waiting.get(key)
        if waiting is not None:
            if len(waiting) < MAX_WAITING:
                waiting.append(client)
        elif len(self._waiting) < MAX_QUESTIONS and self._raised[jid.bare] < MAX_OF_ONE:
            self._raised[jid.bare] += 1
            self._waiting[key] = deque((client,))
            task = asyncio.get_running_loop().create_task(self._find_out(key, jid.bare))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait until no question is open."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def close(self) -> None:
        """Give up what is asked."""
        for task in tuple(self._tasks):
            task.cancel()
        await self.settle()

    def __len__(self) -> int:
        return len(self._known)

    async def _find_out(self, key: object, raised_by: str) -> None:
        """Ask one after the other until one proves its answer."""
        waiting = self._waiting[key]
        asked: dict[asyncio.Task[Answer | None], _Client] = {}
        try:
            while waiting or asked:
                if waiting and len(asked) < MAX_ASKED:
                    client = waiting.popleft()
                    asked[asyncio.ensure_future(self._ask(client))] = client
                done, _ = await asyncio.wait(asked, timeout=HEDGE, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    client, answer = asked.pop(task), task.result()
                    if answer is None:
                        continue
                    client.then(answer.interests)
                    if answer.is_verified:
                        self._keep(client.said, answer.interests)
                        others = [*asked.values(), *waiting]
                        waiting.clear()
                        for other in others:
                            other.then(answer.interests)
                        return
        except Exception:
            log.exception("learning capabilities failed")
        finally:
            for task in asked:
                task.cancel()
            del self._waiting[key]
            self._raised[raised_by] -= 1
            if not self._raised[raised_by]:
                del self._raised[raised_by]

    async def _ask(self, client: _Client) -> Answer | None:
        query = element(ns.DISCO_INFO, "query", {"node": client.said.query_node})
        try:
            info = await self._enquiries.ask(client.asker, client.jid, query, timeout=TIMEOUT)
            if info is None or info.tag != query.tag:
                return None
            return caps.read(info, client.said)
        except DomainError:
            return None
        except caps.IllFormed as error:
            log.info("unusable capabilities", client=str(client.jid), reason=str(error))
            return None

    def _keep(self, said: Advertised, interests: Interests) -> None:
        self._known[said.algorithm, said.ver] = interests
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        self._database.commit.also(storage.note, said.algorithm, said.ver, sorted(interests), self._clock.now())
