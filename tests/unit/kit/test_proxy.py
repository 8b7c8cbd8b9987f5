"""Each fault of the proxy, seen from both ends."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.kit.proxy import FaultProxy


class Echo:
    """Echoes and remembers what each connection said."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.chunks: list[int] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        try:
            while data := await reader.read(65536):
                said += data
                self.chunks.append(len(data))
                writer.write(data)
            writer.close()
        except ConnectionError:
            pass
        self.heard.append(said)
        self.ended.set()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, FaultProxy]]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield made, proxy


async def talk(proxy: FaultProxy, said: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(said)
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    return heard


async def test_fair_weather_passes_all(echo: tuple[Echo, FaultProxy]) -> None:
    assert await talk(echo[1], b"x" * 200_000) == b"x" * 200_000


async def test_delay(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].there.delay = 0.1
    begun = time.monotonic()
    assert await talk(echo[1], b"hello") == b"hello"
    assert time.monotonic() - begun >= 0.1


async def test_dribble_writes_single_bytes(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].there.dribble = 1
    echo[1].there.delay = 0.002
    assert await talk(echo[1], b"hello") == b"hello"
    assert echo[0].chunks == [1] * 5


async def test_cut_after_some_bytes_of_the_request(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].there.cut_after = 3
    with pytest.raises(ConnectionError):
        await talk(echo[1], b"hello")
    await asyncio.wait_for(echo[0].ended.wait(), 5)
    assert len(echo[0].heard[0]) <= 3


async def test_cut_after_some_bytes_of_the_answer_leaves_the_request_whole(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].back.cut_after = 1
    reader, writer = await asyncio.open_connection("127.0.0.1", echo[1].port)
    writer.write(b"hello")
    with pytest.raises(ConnectionError):
        await reader.readexactly(5)
    await asyncio.wait_for(echo[0].ended.wait(), 5)
    assert echo[0].heard == [b"hello"]


async def test_freeze_holds_and_thaw_passes(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].freeze()
    talking = asyncio.create_task(talk(echo[1], b"hello"))
    done, _ = await asyncio.wait([talking], timeout=0.1)
    assert not done
    echo[1].thaw()
    assert await talking == b"hello"


async def test_reset_reaches_the_client(echo: tuple[Echo, FaultProxy]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo[1].port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    echo[1].reset()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)


async def test_random_resets(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].back.reset_chance = 1.0
    with pytest.raises(ConnectionError):
        await talk(echo[1], b"x" * 1000)
    assert echo[1].resets > 0


async def test_duplicate_plays_the_request_twice(echo: tuple[Echo, FaultProxy]) -> None:
    echo[1].there.duplicate = True
    assert await talk(echo[1], b"hello") == b"hello"
    async with asyncio.timeout(5):
        while len(echo[0].heard) < 2:
            echo[0].ended.clear()
            await echo[0].ended.wait()
    assert echo[0].heard == [b"hello", b"hello"]
