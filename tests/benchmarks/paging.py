"""Archive load: fill one conversation to a size, then fetch pages of it from random places (XEP-0313, XEP-0059)."""

import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.pairs import LoadError, Measured, chat_message
from tests.benchmarks.wire import READ_SIZE, Connection

PAGE_SIZE = 100
_UNDER_WAY = 200
_STANZA_ID = re.compile(rb"<stanza-id\b[^>]*>")
_ID = re.compile(rb"\sid=(['\"])(.*?)\1")
_RESULT = b"</forwarded>"
_PAGE_END = re.compile(rb"<iq\b[^>]*(?:/>|>.*?</iq>)", re.DOTALL)


def fill(sender: Connection, receiver: Connection, count: int, first: int) -> list[str]:
    """Send `count` messages numbered from `first`; return the archive ids the receiver saw, in order.

    Raises LoadError when a message comes without an archive id (XEP-0359 s4), and TimeoutError when none comes.
    """
    template = chat_message(receiver.account.jid, sender.account.user)
    ids: list[str] = []
    sent = 0
    pending = b""
    while len(ids) < count:
        free = min(_UNDER_WAY - (sent - len(ids)), count - sent)
        if free >= _UNDER_WAY // 2 or (free and sent + free == count):
            numbers = range(first + sent, first + sent + free)
            sender.send(b"".join([template % (number, number) for number in numbers]))
            sent += free
        data = pending + receiver.sock.recv(READ_SIZE)
        if len(data) == len(pending):
            raise LoadError("the receiver's connection was closed")
        *whole, pending = data.split(b"</message>")
        ids.extend(_archive_id(stanza) for stanza in whole)
    return ids


def _archive_id(stanza: bytes) -> str:
    tag = _STANZA_ID.search(stanza)
    found = _ID.search(tag.group()) if tag else None
    if not found:
        raise LoadError(f"a message without an archive id: {stanza[:600]!r}")
    return found.group(2).decode()


def fetch_page(reader: Connection, after: str, number: int) -> None:
    """Fetch the page after an archive id and check that it holds exactly 100 messages; LoadError otherwise."""
    reader.send(
        f"<iq type='set' id='page{number}'><query xmlns='urn:xmpp:mam:2' queryid='q'>"
        f"<set xmlns='http://jabber.org/protocol/rsm'><max>{PAGE_SIZE}</max><after>{after}</after></set></query></iq>".encode()
    )
    page = reader.read_until(_PAGE_END)
    if page.count(_RESULT) != PAGE_SIZE:
        raise LoadError(f"page with {page.count(_RESULT)} messages: ...{page[-600:]!r}")


def measure_pages(
    reader: Connection, id_at: Callable[[int], str], *, rows: int, pages: int, seconds: float, pids: Sequence[int]
) -> dict[str, Any]:
    """Fetch pages from random places of `rows` rows until their number or the time is used up.

    `id_at(index)` names the archive id of a row. Returns the figures of `Measured`, where `messages` counts pages.
    """
    places = random.Random(rows)
    fetch_page(reader, id_at(0), 0)
    measured = Measured()
    with measured.over(pids):
        start = time.perf_counter()
        while measured.messages < pages and time.perf_counter() - start < seconds:
            before = time.perf_counter()
            fetch_page(reader, id_at(places.randrange(rows - PAGE_SIZE - 1)), measured.messages + 1)
            measured.latencies.append(time.perf_counter() - before)
            measured.messages += 1
    return {"rows": rows, **measured.as_json()}
