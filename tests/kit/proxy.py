"""A TCP proxy that hurts: delay, dribble, cut, freeze, reset, duplicate.

It sits between two parties on loopback. A `Weather` says what happens to the bytes of one direction and can be changed
while connections are open.
"""

import asyncio
import random
import socket
import struct
from dataclasses import dataclass
from typing import Final

_CHUNK: Final = 65536


@dataclass(slots=True)
class Weather:
    """What happens to bytes of one direction.

    ``delay`` seconds before each chunk, plus up to ``jitter``; ``dribble``: at most so many bytes at a time (0: all);
    ``cut_after``: after so many bytes of a connection it is reset (None: never), in the middle of what comes then;
    ``reset_chance``: chance per chunk of a reset; ``duplicate``: each connection's bytes are played a second time to the
    target on a new connection, whose answer is thrown away (for protocols with one request per connection).
    """

    delay: float = 0.0
    jitter: float = 0.0
    dribble: int = 0
    cut_after: int | None = None
    reset_chance: float = 0.0
    duplicate: bool = False


class FaultProxy:
    """Listens on a loopback port and passes on to ``target``; use as ``async with``.

    ``there`` is the weather from client to target, ``back`` from target to client. ``connections`` counts all that were
    accepted.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", seed: int = 1) -> None:
        self.target = (target_host, target_port)
        self.there = Weather()
        self.back = Weather()
        self.connections = 0
        self.resets = 0
        self._random = random.Random(seed)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "FaultProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    @property
    def port(self) -> int:
        """Where to connect."""
        if self._server is None:
            raise RuntimeError("the proxy is not open")
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def freeze(self) -> None:
        """A dead network: nothing passes, nothing is reset, new connections are accepted and silent."""
        self._open.clear()

    def thaw(self) -> None:
        """What waited passes on."""
        self._open.set()

    def reset(self) -> None:
        """Reset every open connection on both sides."""
        for writer in list(self._writers):
            self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        self._writers.discard(writer)
        self.resets += 1

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            self._reset(writer)
            return
        self._writers.add(far_writer)
        spoken = bytearray()
        ends = (writer, far_writer)
        lanes = (
            asyncio.ensure_future(self._lane(reader, far_writer, self.there, ends, spoken)),
            asyncio.ensure_future(self._lane(far_reader, writer, self.back, ends, None)),
        )
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            for end in ends:
                self._writers.discard(end)
                end.close()
        if self.there.duplicate and spoken:
            await self._again(bytes(spoken))

    async def _lane(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        weather: Weather,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        spoken: bytearray | None,
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(weather.dribble or _CHUNK):
                if weather.delay or weather.jitter:
                    await asyncio.sleep(weather.delay + self._random.uniform(0.0, weather.jitter))
                await self._open.wait()
                cut = weather.cut_after is not None and passed + len(data) >= weather.cut_after
                if cut and weather.cut_after is not None:
                    data = data[: weather.cut_after - passed]
                writer.write(data)
                await writer.drain()
                passed += len(data)
                if spoken is not None:
                    spoken += data
                if cut or self._random.random() < weather.reset_chance:
                    await asyncio.sleep(0)
                    for end in ends:
                        self._reset(end)
                    return
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            for end in ends:
                end.transport.abort()

    async def _again(self, spoken: bytes) -> None:
        reader, writer = await asyncio.open_connection(*self.target)
        try:
            writer.write(spoken)
            writer.write_eof()
            while await reader.read(_CHUNK):
                pass
        finally:
            writer.close()
