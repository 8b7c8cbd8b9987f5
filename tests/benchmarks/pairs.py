"""Load on pairs of connections: one sends chat messages to the other's bare JID, arrivals are counted and timed.

Everything per message is a few lines of plain Python over non-blocking sockets and one epoll: the generator shares the
machine with the server and must leave it the larger part. Messages are ready-made bytes with a number in two places,
arrivals are counted by their end tags, and because a pair's messages arrive in the order they were sent (RFC 6120
s10.1) the send times wait in a queue per pair.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from xml.etree import ElementTree

from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.wire import READ_SIZE, Connection

_END = b"</message>"
_MAX_EVENTS = 512
_DRAIN_SECONDS = 5.0
_TEXT = "The train leaves at ten past nine from the far platform; bring the blue folder and some coffee, please."


class LoadError(Exception):
    """A connection broke or a message came back as an error while the load ran."""


def chat_message(to: str, origin: str) -> bytes:
    """Return a chat message of about 330 bytes with two `%d` places for its number.

    It carries what current clients send: body, origin id (XEP-0359), chat state (XEP-0085), marker (XEP-0333).
    """
    return (
        f"<message to='{to}' type='chat' id='{origin}-%d' xml:lang='en'><body>{_TEXT}</body>"
        f"<origin-id xmlns='urn:xmpp:sid:0' id='{origin}-%d'/>"
        "<active xmlns='http://jabber.org/protocol/chatstates'/><markable xmlns='urn:xmpp:chat-markers:0'/></message>"
    ).encode()


def try_out(pairs: Sequence[tuple[Connection, Connection]]) -> None:
    """Let every pair exchange one message, and parse what arrives: under load nothing is parsed.

    Raises LoadError when a message arrives changed or as broken XML, TimeoutError when it does not arrive.
    """
    for sender, receiver in pairs:
        sender.send(chat_message(receiver.account.jid, sender.account.user) % (0, 0))
    for sender, receiver in pairs:
        received = receiver.read_until(re.compile(_END))
        try:
            message = ElementTree.fromstring(b"<stream xmlns='jabber:client'>" + received + b"</stream>")[-1]
        except ElementTree.ParseError as error:
            raise LoadError(f"a message arrives as broken XML ({error}): {received!r}") from error
        origin = (message.get("from", "").partition("/")[0], message.findtext("{jabber:client}body"))
        if origin != (sender.account.jid, _TEXT):
            raise LoadError(f"a message arrives changed: {received!r}")


@dataclass
class Measured:
    """One measured stretch: CPU in seconds, latencies in milliseconds."""

    messages: int = 0
    seconds: float = 0.0
    server_cpu: float = 0.0
    generator_cpu: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    lost: int = 0
    late_ms: float = 0.0
    latencies: list[float] = field(default_factory=list, repr=False)

    def as_json(self) -> dict[str, float]:
        """Return the figures without the single latencies."""
        figures = asdict(self)
        del figures["latencies"]
        return figures

    @contextmanager
    def over(self, pids: Sequence[int]) -> Iterator[None]:
        """Measure CPU of the server processes and of this one, and the wall time, around the block."""
        server, own, wall = cpu_seconds(pids), time.process_time(), time.perf_counter()
        yield
        self.seconds = time.perf_counter() - wall
        self.generator_cpu = time.process_time() - own
        self.server_cpu = cpu_seconds(pids) - server
        if self.latencies:
            ordered = sorted(self.latencies)
            self.p50_ms = 1000 * ordered[len(ordered) // 2]
            self.p99_ms = 1000 * ordered[len(ordered) * 99 // 100]


class Pairs:
    """Senders and receivers with the messages under way between them."""

    def __init__(self, pairs: Sequence[tuple[Connection, Connection]]) -> None:
        """Take logged-in connections that have been tried out; each first one sends to the bare JID of the second."""
        self._epoll = select.epoll()
        self._senders: list[socket.socket] = []
        self._templates: list[bytes] = []
        self._under_way: list[deque[float]] = []
        self._numbers: list[int] = []
        self._receivers: dict[int, tuple[socket.socket, int]] = {}
        self._others: dict[int, socket.socket] = {}
        self._partial: dict[int, bytes] = {}
        self._buffer = bytearray(READ_SIZE)
        for index, (sender, receiver) in enumerate(pairs):
            self._senders.append(sender.sock)
            self._templates.append(chat_message(receiver.account.jid, f"{sender.account.user}"))
            self._under_way.append(deque())
            self._numbers.append(1)
            self._receivers[receiver.fileno()] = (receiver.sock, index)
            self._others[sender.fileno()] = sender.sock
            for connection in (sender, receiver):
                connection.sock.setblocking(False)
                self._epoll.register(connection.fileno(), select.EPOLLIN)

    def closed_loop(self, outstanding: int, warm_up: float, seconds: float, pids: Sequence[int]) -> Measured:
        """Keep `outstanding` messages of every pair under way; each arrival releases the next message."""
        now = time.perf_counter()
        for index in range(len(self._senders)):
            self._send(index, outstanding, now)
        self._answer_until(now + warm_up, [], self._send)
        measured = Measured()
        with measured.over(pids):
            measured.messages = self._answer_until(time.perf_counter() + seconds, measured.latencies, self._send)
        measured.lost = self._drain()
        return measured

    def open_loop(self, rate: float, warm_up: float, seconds: float, pids: Sequence[int]) -> Measured:
        """Send `rate` messages a second, pair after pair, whether or not earlier ones have arrived."""
        self._send_at_rate(rate, warm_up, Measured())
        measured = Measured()
        with measured.over(pids):
            self._send_at_rate(rate, seconds, measured)
        measured.lost = self._drain()
        return measured

    def _send(self, index: int, count: int, now: float) -> None:
        template, number = self._templates[index], self._numbers[index]
        self._numbers[index] = number + count
        self._under_way[index].extend([now] * count)
        if count == 1:
            data = template % (number, number)
        else:
            data = b"".join([template % (value, value) for value in range(number, number + count)])
        sock = self._senders[index]
        sent = sock.send(data)
        while sent < len(data):
            select.select([], [sock], [])
            sent += sock.send(data[sent:])

    def _answer_until(
        self, deadline: float, latencies: list[float], release: Callable[[int, int, float], None] | None
    ) -> int:
        """Handle arrivals until the deadline; give every pair as many new messages as arrived. Return arrivals."""
        arrivals = 0
        poll, clock = self._epoll.poll, time.perf_counter
        while (left := deadline - clock()) > 0:
            for descriptor, _ in poll(left, _MAX_EVENTS):
                now = clock()
                index, count = self._read(descriptor)
                if count:
                    arrivals += count
                    take = self._under_way[index].popleft
                    for _ in range(count):
                        latencies.append(now - take())
                    if release:
                        release(index, count, now)
            if release is None and not any(self._under_way):
                break
        return arrivals

    def _read(self, descriptor: int) -> tuple[int, int]:
        """Read what is there; return the pair and how many messages ended in it."""
        entry = self._receivers.get(descriptor)
        buffer = self._buffer
        if entry is None:
            length = self._others[descriptor].recv_into(buffer)
            self._refuse_trouble(length)
            return -1, 0
        sock, index = entry
        length = sock.recv_into(buffer)
        if index in self._partial:
            data = self._partial.pop(index) + buffer[:length]
            count = data.count(_END)
            if not data.endswith(_END):
                self._partial[index] = bytes(data[1 - len(_END) :])
        else:
            count = buffer.count(_END, 0, length)
            if not buffer.endswith(_END, 0, length):
                self._partial[index] = bytes(buffer[max(0, length - len(_END) + 1) : length])
        if not length:
            self._refuse_trouble(length)
        return index, count

    def _refuse_trouble(self, length: int) -> None:
        """A sender gets nothing under load but errors and the end of its stream: neither may pass unseen."""
        data = bytes(self._buffer[:length])
        if not length or b"error" in data or b"<message" in data:
            raise LoadError(f"the server answered a sender with {data[:600]!r}" if data else "connection closed")

    def _send_at_rate(self, rate: float, seconds: float, measured: Measured) -> None:
        interval = 1.0 / rate
        due = time.perf_counter()
        end = due + seconds
        turn = sum(self._numbers)
        while due < end:
            self._arrivals_before(due, measured)
            now = time.perf_counter()
            measured.late_ms = max(measured.late_ms, 1000 * (now - due))
            while due <= now and due < end:
                self._send(turn % len(self._senders), 1, now)
                turn += 1
                due += interval

    def _arrivals_before(self, due: float, measured: Measured) -> None:
        """Handle arrivals until `due`; unlike `_answer_until` nothing under way is no reason to return early."""
        poll, clock = self._epoll.poll, time.perf_counter
        while True:
            for descriptor, _ in poll(max(0.0, due - clock()), _MAX_EVENTS):
                now = clock()
                index, count = self._read(descriptor)
                for _ in range(count):
                    measured.latencies.append(now - self._under_way[index].popleft())
                measured.messages += count
            if clock() >= due:
                return

    def _drain(self) -> int:
        """Wait for what is still under way; return how many messages did not come within the time allowed."""
        self._answer_until(time.perf_counter() + _DRAIN_SECONDS, [], None)
        return sum(len(times) for times in self._under_way)
