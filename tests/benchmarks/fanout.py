"""One sender, many receivers: a change of presence, or of an item of personal eventing, told to all who see it.

One change is under way at a time: the next is sent when every receiver has the last one. Receivers only count end tags.
"""

import select
import time
from collections.abc import Sequence
from typing import Final

from tests.benchmarks.caps import MOOD, Capabilities
from tests.benchmarks.pairs import LoadError, Measured
from tests.benchmarks.wire import READ_SIZE, Account, Connection

_WAIT_SECONDS: Final = 10.0
_STATUS: Final = "Out with the blue folder, back at ten past nine"

PRESENCE: Final = b"</presence>"
MESSAGE: Final = b"</message>"


def presence_change(caps: Capabilities) -> bytes:
    """A presence of about 300 bytes with one `%d` place."""
    text = (
        f"<presence><show>away</show><status>{_STATUS} (%d)</status><priority>5</priority>{caps.element()}</presence>"
    )
    return text.encode()


def publication(node: str = MOOD) -> bytes:
    """The publishing of an item (XEP-0060 s7.1.1), about 300 bytes with two `%d` places."""
    return (
        "<iq type='set' id='p%d'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        f"<publish node='{node}'><item id='current'><mood xmlns='{MOOD}'><happy/><text>{_STATUS} (%d)</text></mood>"
        "</item></publish></pubsub></iq>"
    ).encode()


class FanOut:
    """A sender and its receivers, logged in. ``end`` is the end tag of what a receiver gets of each change."""

    def __init__(self, sender: Connection, receivers: Sequence[Connection], change: bytes, end: bytes) -> None:
        self._sender = sender
        self._change = change
        self._places = change.count(b"%d")
        self._end = end
        self._number = 0
        self._buffer = bytearray(READ_SIZE)
        self._receivers = {receiver.fileno(): receiver for receiver in receivers}
        self._partial = dict.fromkeys(self._receivers, b"")
        self._epoll = select.epoll()
        for connection in (sender, *receivers):
            connection.sock.setblocking(False)
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def try_out(self) -> None:
        """One change that is looked at: what everybody gets holds the text. Raises LoadError."""
        marker = f"{_STATUS} ({self._number})".encode()
        for text in self._round(keep=True).values():
            if marker not in text:
                raise LoadError(f"a change arrives changed: {text[-600:]!r}")

    def run(self, warm_up: float, seconds: float, pids: Sequence[int]) -> Measured:
        """Change after change; ``messages`` are what receivers got, latencies the time until the last of them had it."""
        self._until(warm_up, Measured())
        measured = Measured()
        with measured.over(pids):
            self._until(seconds, measured)
        return measured

    def _until(self, seconds: float, measured: Measured) -> None:
        began = time.perf_counter()
        now = began
        while now - began < seconds:
            self._round()
            before, now = now, time.perf_counter()
            measured.latencies.append(now - before)
            measured.messages += len(self._receivers)

    def _round(self, keep: bool = False) -> dict[int, bytes]:
        """Send one change and wait until everybody has it; with ``keep`` what they got."""
        number, self._number = self._number, self._number + 1
        self._sender.sock.sendall(self._change % ((number,) * self._places))
        missing = set(self._receivers)
        kept: dict[int, bytes] = dict.fromkeys(missing, b"")
        deadline = time.perf_counter() + _WAIT_SECONDS
        while missing:
            ready = self._epoll.poll(1.0, 512)
            if not ready and time.perf_counter() > deadline:
                raise LoadError(f"{len(missing)} of {len(self._receivers)} receivers were not told of change {number}")
            for descriptor, _ in ready:
                receiver = self._receivers.get(descriptor)
                if receiver is None:
                    self._answered()
                    continue
                length = receiver.sock.recv_into(self._buffer)
                if not length:
                    raise LoadError("a receiver's connection was closed")
                data = self._partial[descriptor] + self._buffer[:length]
                if keep:
                    kept[descriptor] += data
                self._partial[descriptor] = b"" if data.endswith(self._end) else data[1 - len(self._end) :]
                if self._end in data:
                    missing.discard(descriptor)
        return kept

    def _answered(self) -> None:
        length = self._sender.sock.recv_into(self._buffer)
        data = bytes(self._buffer[:length])
        if not length or b"type='error'" in data or b'type="error"' in data:
            raise LoadError(f"the server answered the sender with {data[:600]!r}")


def measure(
    accounts: Sequence[Account], what: str, warm_up: float, seconds: float, pids: Sequence[int]
) -> dict[str, float]:
    """The first account is the sender, the others receive. ``what`` is "presence" or "event"."""
    caps = Capabilities((MOOD,))
    connections = []
    for number, account in enumerate((*accounts[1:], accounts[0])):
        connection = Connection(account)
        connection.login()
        connection.show(caps, is_asked=number == 0)
        connections.append(connection)
    sender = connections.pop()
    change, end = (presence_change(caps), PRESENCE) if what == "presence" else (publication(), MESSAGE)
    for connection in connections:
        connection.catch_up()
    load = FanOut(sender, connections, change, end)
    load.try_out()
    return load.run(warm_up, seconds, pids).as_json()
