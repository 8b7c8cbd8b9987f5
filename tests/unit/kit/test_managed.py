"""The managed client against a scripted server: what it resends, what it calls acknowledged, what it calls confirmed."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from tests.kit.checker import Key, Ledger
from tests.kit.managed import ManagedClient, Observer
from tests.kit.server import Account, Endpoint

ANN = Account("ann@one.example", "secret")
BOB = "bob@one.example"
KEY = Key(BOB, ANN.jid, 1)
SM = ns.STREAM_MANAGEMENT


class Scripted:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = ""

    def say(self, text: str) -> None:
        self._writer.write(text.encode())

    async def expect(self, pattern: str) -> re.Match[str]:
        async with asyncio.timeout(5):
            while (found := re.search(pattern, self._heard, re.DOTALL)) is None:
                data = await self._reader.read(4096)
                assert data, f"the client went away before {pattern!r}: {self._heard!r}"
                self._heard += data.decode()
        self._heard = self._heard[found.end() :]
        return found

    async def welcome(self) -> None:
        header = (
            f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}' id='s' version='1.0'><stream:features/>"
        )
        await self.expect("<stream:stream[^>]*>")
        self.say(header)
        await self.expect("</auth>")
        self.say(f"<success xmlns='{ns.SASL}'/>")
        await self.expect("<stream:stream[^>]*>")
        self.say(header)

    async def bind(self, name: str) -> None:
        await self.expect("</iq>")
        self.say(f"<iq type='result' id='bind'><bind xmlns='{ns.BIND}'><jid>{ANN.jid}/r</jid></bind></iq>")
        await self.expect("<enable [^>]*>")
        self.say(f"<enabled xmlns='{SM}' id='{name}' resume='true'/>")

    def message(self) -> None:
        self.say(
            f"<message from='{BOB}/x' to='{ANN.jid}'><body>{KEY.body()}</body>"
            f"<stanza-id xmlns='{ns.STANZA_ID}' id='7' by='{ANN.jid}'/></message>"
        )

    async def acknowledge_ping(self) -> None:
        """The client's second stanza, behind its presence."""
        await self.expect("<iq type='get' id='confirm[0-9]+'.*?</iq><r ")
        self.say(f"<a xmlns='{SM}' h='2'/>")

    def reset(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Scripted], Awaitable[None]]


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[tuple[Endpoint, asyncio.Future[None]]]:
    """A server that plays one script per connection; the future is done when the last has ended."""
    waiting = list(scripts)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not waiting:
            writer.transport.abort()
            return
        try:
            await waiting.pop(0)(Scripted(reader, writer))
        except (AssertionError, TimeoutError) as error:
            done.set_exception(error)
        else:
            if not waiting:
                done.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], "one.example"), done


def noting(ledger: Ledger) -> Observer:
    def message(found: Element) -> Key | None:
        stanza_id = found.find(f"{{{ns.STANZA_ID}}}stanza-id")
        sender = found.get("from", "").partition("/")[0]
        ledger.received(KEY, sender, ANN.jid, None if stanza_id is None else stanza_id.get("id"))
        return KEY

    return Observer(
        message=message,
        acknowledged=ledger.acknowledged,
        confirmed=ledger.confirmed,
        covered=partial(ledger.covered, ANN.jid),
    )


async def play(*scripts: Script) -> Ledger:
    """Run the scripts against a client; the ledger it filled."""
    ledger = Ledger()
    ledger.sent(KEY)
    async with serving(*scripts) as (endpoint, done):
        client = asyncio.create_task(ManagedClient(endpoint, ANN, noting(ledger)).run())
        try:
            await done
        finally:
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)
    return ledger


async def deliver(server: Scripted) -> None:
    await server.welcome()
    await server.bind("first")
    server.message()
    await server.expect(f"<a xmlns='{SM}' h='1'/>")


async def test_repeat_after_a_confirmed_acknowledgement_is_a_violation() -> None:
    async def first(server: Scripted) -> None:
        await deliver(server)
        await server.acknowledge_ping()
        server.message()
        await server.expect(f"<a xmlns='{SM}' h='2'/>")

    assert (await play(first)).verdict(archive=False).doubled_after_ack == 1


async def test_answer_to_the_ping_alone_proves_nothing() -> None:
    async def first(server: Scripted) -> None:
        await deliver(server)
        found = await server.expect("<iq type='get' id='(confirm[0-9]+)'.*?</iq>")
        server.say(f"<iq type='result' id='{found[1]}'/>")
        server.message()
        await server.expect(f"<a xmlns='{SM}' h='3'/>")  # message, answer to the ping, message

    assert (await play(first)).verdict(archive=False).failures() == {}


async def test_repeat_after_an_acknowledgement_that_may_be_lost_is_none() -> None:
    async def first(server: Scripted) -> None:
        await deliver(server)
        server.reset()

    async def second(server: Scripted) -> None:
        await server.welcome()
        await server.expect("<resume [^>]*h='1'[^>]*previd='first'[^>]*>")
        server.say(f"<failed xmlns='{SM}'/>")
        await server.bind("second")
        server.message()
        await server.expect(f"<a xmlns='{SM}' h='1'/>")

    assert (await play(first, second)).verdict(archive=False).failures() == {}


async def test_repeat_of_what_a_resumption_covered_is_a_violation() -> None:
    async def first(server: Scripted) -> None:
        await deliver(server)
        server.reset()

    async def second(server: Scripted) -> None:
        await server.welcome()
        await server.expect("<resume [^>]*h='1'[^>]*>")
        server.say(f"<resumed xmlns='{SM}' h='1' previd='first'/>")
        server.message()
        await server.expect(f"<a xmlns='{SM}' h='2'/>")

    assert (await play(first, second)).verdict(archive=False).doubled_after_resume == 1


async def test_silent_client_never_acknowledges() -> None:
    async def first(server: Scripted) -> None:
        await server.welcome()
        await server.bind("first")
        server.message()
        server.say(f"<r xmlns='{SM}'/><iq type='get' id='q'><ping xmlns='{ns.PING}'/></iq>")
        answer = await server.expect("<presence/>(.*)id='q'")
        assert "<a " not in answer[1]

    async with serving(first) as (endpoint, done):
        client = asyncio.create_task(ManagedClient(endpoint, ANN, Observer(), acks=False).run())
        await done
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)


async def test_sender_resends_what_was_not_acknowledged_with_the_same_ids_after_a_refused_resumption() -> None:
    acknowledged: list[Key] = []
    keys = [Key(ANN.jid, BOB, number) for number in (1, 2, 3)]

    async def first(server: Scripted) -> None:
        await server.welcome()
        await server.bind("first")
        await server.expect("<m3/>")
        server.say(f"<a xmlns='{SM}' h='1'/>")
        await server.expect("<r ")
        server.reset()

    async def second(server: Scripted) -> None:
        await server.welcome()
        await server.expect("<resume ")
        server.say(f"<failed xmlns='{SM}' h='2'/>")
        await server.bind("second")
        again = await server.expect("(.*)<m3/>")
        assert "<m1/>" not in again[1]
        assert "<m2/>" not in again[1]
        server.say(f"<a xmlns='{SM}' h='1'/>")
        await server.expect("<r ")

    async with serving(first, second) as (endpoint, done):
        client = ManagedClient(endpoint, ANN, Observer(acknowledged=acknowledged.append), presence=False)
        running = asyncio.create_task(client.run())
        await client.online.wait()
        for key in keys:
            client.send(f"<m{key.number}/>", key)
        for count in (1, 3):
            while len(acknowledged) < count:
                client.moved.clear()
                await asyncio.wait_for(client.moved.wait(), 5)
            client.ask()
        await done
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert acknowledged == keys
    assert client.waiting == 0


async def test_sender_resends_after_resumption_only_what_the_server_does_not_have() -> None:
    async def first(server: Scripted) -> None:
        await server.welcome()
        await server.bind("first")
        await server.expect("<m2/>")
        server.reset()

    async def second(server: Scripted) -> None:
        await server.welcome()
        await server.expect("<resume ")
        server.say(f"<resumed xmlns='{SM}' h='1' previd='first'/>")
        again = await server.expect("(.*)<m2/>")
        assert "<m1/>" not in again[1]

    async with serving(first, second) as (endpoint, done):
        client = ManagedClient(endpoint, ANN, Observer(), presence=False)
        running = asyncio.create_task(client.run())
        await client.online.wait()
        for number in (1, 2):
            client.send(f"<m{number}/>", Key(ANN.jid, BOB, number))
        await done
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
