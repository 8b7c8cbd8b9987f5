"""Two homeservers and the network between them: promises 1 to 4 of the protocol page."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federation.housekeeping import Housekeeping
from federation.http.app import Mount
from federation.policy import Limits, Policy
from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import error_of
from homeserver.protocol.xml import text_of
from homeserver.services.lanes import WINDOW_ROWS
from homeserver.services.outbox import Patience
from tests.kit.federation import MOUNT, Peer, two
from tests.kit.proxy import FaultProxy

Pair = tuple[Peer, Peer]
PRESENCE = b"<presence from='a@a.example/r' to='b@b.example'/>"
QUERY = b"<iq from='a@a.example/r' to='b@b.example' type='get' id='q'><ping xmlns='urn:xmpp:ping'/></iq>"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    first, second = await two(tmp_path)
    yield first, second
    await first.close()
    await second.close()


async def test_messages_arrive_once_and_in_order(pair: Pair) -> None:
    first, second = pair
    for number in range(200):
        first.send("b@b.example", number)
        if number % 20 == 0:
            await asyncio.sleep(0)
    assert await second.waits_for(200) == [f"m{number}" for number in range(200)]
    await first.drained()
    assert first.outbox.list() == []


async def test_both_directions_at_once(pair: Pair) -> None:
    first, second = pair
    for number in range(50):
        first.send("b@b.example", number)
        second.send("a@a.example", number)
    assert len(await second.waits_for(50)) == 50
    assert len(await first.waits_for(50)) == 50


async def test_only_the_rest_waits_while_the_peer_is_away(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    for number in range(10):
        first.send("b@b.example", number)
    await second.waits_for(10)
    await first.drained()
    await second.close()
    for number in range(10, 30):
        first.send("b@b.example", number)
    async with asyncio.timeout(10):
        while not (found := first.outbox.list()) or not found[0].failures:
            await asyncio.sleep(0.01)
    assert (found[0].waiting, found[0].destination) == (20, "b.example")
    assert found[0].last_error
    await second.open()
    second.sender.start()  # its wake-up call ends the back-off
    assert await second.waits_for(30) == [f"m{number}" for number in range(30)]
    await first.drained()
    await first.close()
    await second.close()


async def test_wake_up_call_ends_a_long_back_off(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    first.outbox.patience = Patience(backoff_min=3600.0, backoff_max=3600.0)
    second.send("a@a.example", 1)
    await first.waits_for(1)
    await second.close()
    first.send("b@b.example", 2)
    await failing(first)
    await second.open()
    second.sender.start(wake=True)
    assert await second.waits_for(1) == ["m2"]
    await first.close()
    await second.close()


async def test_own_restart_while_the_peer_is_away(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    await second.close()
    for number in range(20):
        first.send("b@b.example", number)
    await failing(first)
    await first.close()
    await first.open()
    for number in range(20, 25):
        first.send("b@b.example", number)
    first.sender.start(wake=False)
    await second.open()
    assert await second.waits_for(25) == [f"m{number}" for number in range(25)]
    await first.drained()
    await first.close()
    await second.close()


@pytest.mark.parametrize("cut", [0, 1, 20, 200, 400])
async def test_answer_is_cut(tmp_path: Path, cut: int) -> None:
    """The peer has stored the batch, its answer does not come through: the next try changes nothing (R-14)."""
    first, second = await two(tmp_path)
    async with FaultProxy(second.port) as proxy:
        await behind(first, second, proxy)
        first.send("b@b.example", 0)
        await second.waits_for(1)
        await first.drained()
        proxy.back.cut_after = cut
        proxy.reset()
        for number in range(1, 20):
            first.send("b@b.example", number)
        await failing(first)
        proxy.back.cut_after = None
        assert await second.waits_for(20) == [f"m{number}" for number in range(20)]
        await first.drained()
        assert await second.received() == [f"m{number}" for number in range(20)]
        assert "federation_epoch_changed" not in second.counts
        await first.close()
    await second.close()


async def test_requests_come_twice(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    async with FaultProxy(second.port) as proxy:
        proxy.there.duplicate = True
        await behind(first, second, proxy)
        first.outbox.pass_on("a.example", "b.example", PRESENCE)
        for number in range(5):
            first.send("b@b.example", number)
            await second.waits_for(number + 1)
            proxy.reset()
        await first.drained()
        await first.close()
    assert await second.received() == [f"m{number}" for number in range(5)]
    assert len(second.sink.passed) == 1
    await second.close()


async def test_bad_network(tmp_path: Path) -> None:
    """Delays, dribbling and resets in the middle of anything (R-13)."""
    first, second = await two(tmp_path, Limits(batch_stanzas=7))
    async with FaultProxy(second.port) as proxy:
        proxy.there.reset_chance = proxy.back.reset_chance = 0.05
        proxy.there.dribble = proxy.back.dribble = 700
        await behind(first, second, proxy)
        for number in range(150):
            first.send("b@b.example", number)
        assert await second.waits_for(150, 40) == [f"m{number}" for number in range(150)]
        await first.drained(40)
        assert await second.received() == [f"m{number}" for number in range(150)]
        await first.close()
    await second.close()


async def test_dead_network(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    async with FaultProxy(second.port) as proxy:
        await behind(first, second, proxy)
        first.transport._seconds = 0.3
        first.send("b@b.example", 0)
        await second.waits_for(1)
        proxy.freeze()
        first.send("b@b.example", 1)
        await failing(first)
        proxy.thaw()
        assert await second.waits_for(2) == ["m0", "m1"]
        await first.drained()
        await first.close()
    await second.close()


@pytest.mark.parametrize("point", ["after_insert", "before_commit", "after_commit"])
async def test_receiver_dies_around_its_commit(tmp_path: Path, point: str) -> None:
    """Killed between storing and answering: what was stored is not stored again, what was not is sent again."""
    first, second = await two(tmp_path)
    first.send("b@b.example", 0)
    await second.waits_for(1)
    await first.drained()
    await second.close()
    armed = True

    def crash(found: str) -> None:
        if armed and found == point:
            raise SystemError("the process ends here")

    await second.open(crash_point=crash)
    for number in range(1, 6):
        first.send("b@b.example", number)
    await failing(first)
    armed = False
    await second.close()
    await second.open()
    assert await second.waits_for(6) == [f"m{number}" for number in range(6)]
    await first.drained()
    assert await second.received() == [f"m{number}" for number in range(6)]
    await first.close()
    await second.close()


@pytest.mark.parametrize("restored", ["first", "second"])
async def test_a_side_is_restored_from_a_backup(tmp_path: Path, restored: str) -> None:
    first, second = await two(tmp_path)
    side = first if restored == "first" else second
    for number in range(5):
        first.send("b@b.example", number)
    await second.waits_for(5)
    await first.drained()
    await side.close()
    shutil.copytree(tmp_path / side.domain, tmp_path / "backup")
    await side.open()
    if side is first:
        side.sender.start(wake=False)
    for number in range(5, 10):
        first.send("b@b.example", number)
    await second.waits_for(10)
    await first.drained()
    await side.close()
    shutil.rmtree(tmp_path / side.domain)
    shutil.copytree(tmp_path / "backup", tmp_path / side.domain)
    await side.open()
    if side is first:
        side.sender.start(wake=False)
    for number in range(10, 15):
        first.send("b@b.example", number)
    await first.drained()
    lost = [] if side is first else [f"m{number}" for number in range(5, 10)]
    assert await second.received() == [name for name in (f"m{n}" for n in range(15)) if name not in lost]
    assert second.counts["federation_epoch_changed"] == 1
    await first.close()
    await second.close()


async def test_expired_and_dropped_messages_come_back(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    first.send("b@b.example", 0)
    await second.waits_for(1)
    await first.drained()
    await second.close()
    first.send("b@b.example", 1)
    await failing(first)  # was in a request, so it may have arrived
    lane = first.outbox.lane("a.example", "b.example")
    lane.retry_at = first.clock.now() + 3600
    first.sender.ready(lane)
    first.send("b@b.example", 2)
    async with asyncio.timeout(5):
        while lane.backlog < 2:
            await asyncio.sleep(0.01)
    first.outbox.patience = Patience(lifetime=-1.0, backoff_min=0.05, backoff_max=0.1)
    assert await first.outbox.expire() == 2
    assert await first.outbox.expire() == 0
    conditions = {stanza.id: error_of(stanza.element) for stanza in first.sink.returns}
    assert conditions == {"m1": "remote-server-timeout", "m2": "remote-server-not-found"}
    returned = first.sink.returns[0].element
    assert text_of(returned, ns.CLIENT, "body") == "hello"
    assert returned.get("to") == "a@a.example/r"
    await second.open()
    first.outbox.patience = Patience()
    first.outbox.retry("b.example")
    first.send("b@b.example", 3)
    assert await second.waits_for(2) == ["m0", "m3"]
    await first.drained()
    assert "federation_epoch_changed" not in second.counts
    assert await first.outbox.drop("b.example") == 0
    await first.close()
    await second.close()


async def test_queries_fail_at_once_while_the_peer_is_away(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    await second.close()
    failed: list[str] = []
    first.outbox.pass_on("a.example", "b.example", QUERY, failed.append)
    await failing(first)
    assert failed == ["remote-server-timeout"]
    first.outbox.patience = Patience(backoff_min=60.0)
    first.outbox.failed(first.outbox.lane("a.example", "b.example"), "away")
    first.outbox.pass_on("a.example", "b.example", QUERY, failed.append)
    assert failed == ["remote-server-timeout"] * 2
    await first.close()


async def test_passing_does_not_overtake(pair: Pair) -> None:
    first, second = pair
    seen: list[list[str]] = []

    async def look(_: object) -> None:
        seen.append(await second.received())

    second.sink.on_passing = look
    for number in range(30):
        first.send("b@b.example", number)
    first.outbox.pass_on("a.example", "b.example", PRESENCE)
    await second.waits_for(30)
    async with asyncio.timeout(5):
        while not seen:
            await asyncio.sleep(0.01)
    assert len(seen[0]) == 30


async def test_a_stuck_handler_does_not_hold_up_answers(pair: Pair) -> None:
    first, second = pair
    never = asyncio.Event()

    async def stuck(_: object) -> None:
        await never.wait()

    second.sink.on_passing = stuck
    first.outbox.pass_on("a.example", "b.example", QUERY)
    for number in range(5):
        first.send("b@b.example", number)
        await second.waits_for(number + 1)
    await first.drained()


async def test_broken_stanzas_do_not_hold_up_the_others(pair: Pair) -> None:
    first, second = pair
    poison = [
        b"<message from='a@a.example' to='b@b.example'><body>",
        b"<message from='a@a.example' to='b@b.example'/></stream:stream>",
        b"<!DOCTYPE x [<!ENTITY e 'x'>]><message from='a@a.example' to='b@b.example'/>",
        b"<message from='a@a.example' to='b@b.example'>&e;</message>",
        b"<message from='a@a.example' to='b@b.example'/><message from='a@a.example' to='b@b.example'/>",
        b"<message from='a@a.example' to='b@b.example'>" + b"<a>" * 500 + b"</a>" * 500 + b"</message>",
        b"<message from='a@a.example' to='b@b.example'>" + b"x" * 600_000 + b"</message>",
        b"<message from='a@c.example' to='b@b.example'/>",
        b"<message from='a@a.example' to='b@c.example'/>",
        b"<message from='a@a.example'/>",
        b"<message to='b@b.example'/>",
        b"<message from='@' to='b@b.example'/>",
        b"<iq from='a@a.example' to='b@b.example' type='get' id='1'/>",
        b"<presence from='a@a.example' to='b@b.example'/>",
        b"<x xmlns='urn:x' from='a@a.example' to='b@b.example'/>",
        b"just text",
        b"",
        b"<!-- x --><message from='a@a.example' to='b@b.example'/>",
        b"\x00",
    ]
    for number, payload in enumerate(poison):
        first.outbox.enqueue("a.example", "b.example", None, None, payload, "a@a.example/r")
        first.send("b@b.example", number)
    assert await second.waits_for(len(poison)) == [f"m{number}" for number in range(len(poison))]
    await first.drained()
    assert second.counts["federation_stanza_rejected"] == len(poison)
    assert second.counts["federation_forged_from"] == 1


async def test_a_fault_of_ours_does_not_hold_up_the_others(pair: Pair) -> None:
    first, second = pair
    second.sink.trip_over = "m1"
    for number in range(3):
        first.send("b@b.example", number)
    assert await second.waits_for(2) == ["m0", "m2"]
    await first.drained()
    assert [error_of(stanza.element) for stanza in first.sink.returns] == ["bad-request"]


async def test_subscriptions_keep_their_place(pair: Pair) -> None:
    first, second = pair
    first.send("b@b.example", 0)
    subscribe = b"<presence from='a@a.example' to='b@b.example' type='subscribe' id='s'/>"
    first.outbox.enqueue("a.example", "b.example", "s", None, subscribe, "a@a.example/r")
    first.send("b@b.example", 1)
    assert await second.waits_for(2) == ["m0", "m1"]
    await first.drained()
    assert [stanza.type for stanza in second.sink.subscriptions] == ["subscribe"]


async def test_large_backlog_goes_through_the_disk(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    await second.close()
    for number in range(2 * WINDOW_ROWS + 100):
        first.send("b@b.example", number)
    await failing(first)
    await second.open()
    found = await second.waits_for(2 * WINDOW_ROWS + 100, 30)
    assert found == [f"m{number}" for number in range(2 * WINDOW_ROWS + 100)]
    await first.drained()
    await first.close()
    await second.close()


async def test_denied_by_the_peer(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    second.api._prover._policy = Policy(deny=["a.example"])
    first.send("b@b.example", 0)
    async with asyncio.timeout(10):
        while not first.sink.returns:
            await asyncio.sleep(0.01)
    assert error_of(first.sink.returns[0].element) == "forbidden"
    assert await second.received() == []
    await first.close()
    await second.close()


async def test_large_batches_are_halved(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    second.api._limits = Limits(body_bytes=3000)
    for number in range(60):
        first.send("b@b.example", number)
    assert await second.waits_for(60) == [f"m{number}" for number in range(60)]
    await first.close()
    await second.close()


async def test_large_bodies_are_compressed(pair: Pair) -> None:
    first, second = pair
    for number in range(40):
        first.send("b@b.example", number, "long text " * 1000)
    assert len(await second.waits_for(40)) == 40


async def test_keys_are_rotated_and_revoked(pair: Pair) -> None:
    first, second = pair
    first.send("b@b.example", 0)
    await second.waits_for(1)
    before = first.own.signing_key("a.example").id
    first.own.revoke("a.example", before)
    assert first.own.signing_key("a.example").id != before
    second.keys.forget("a.example")
    first.outbox.retry("b.example")
    first.send("b@b.example", 1)
    assert await second.waits_for(2) == ["m0", "m1"]
    assert second.counts["federation_key_unvouched"] == 1


async def test_watchers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.sender.UNREACHABLE_AFTER", 0.1)
    first, second = await two(tmp_path)
    told: list[tuple[str, str]] = []

    class Watcher:
        def peer_unreachable(self, origin: str, destination: str) -> None:
            told.append(("gone", destination))

        def peer_returned(self, origin: str, destination: str) -> None:
            told.append(("back", destination))

    first.sender.watch(Watcher())
    await second.close()
    first.send("b@b.example", 0)
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.01)
    await second.open()
    await second.waits_for(1)
    await first.drained()
    async with asyncio.timeout(5):
        while len(told) < 2:
            await asyncio.sleep(0.01)
    assert told == [("gone", "b.example"), ("back", "b.example")]
    await first.close()
    await second.close()


async def test_a_running_lane_does_not_read_the_disk(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    first.send("b@b.example", 0)
    await second.waits_for(1)
    await first.drained()
    reads: list[object] = []
    read = first.database.read

    async def counted(function: object, *arguments: object) -> object:
        reads.append(function)
        return await read(function, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(first.database, "read", counted)
    for number in range(1, 300):
        first.send("b@b.example", number)
    await second.waits_for(300)
    assert reads == []


async def test_passing_waits_for_a_commit_under_way(pair: Pair) -> None:
    """A presence queued behind a message whose commit is not through neither overtakes it nor spins."""
    first, second = pair
    for number in range(20):
        first.send("b@b.example", number)
        first.outbox.pass_on("a.example", "b.example", PRESENCE)
    await second.waits_for(20)
    async with asyncio.timeout(5):
        while len(second.sink.passed) < 20:
            await asyncio.sleep(0.01)


async def test_housekeeping(pair: Pair) -> None:
    first, second = pair
    first.send("b@b.example", 0)
    await second.waits_for(1)
    await Housekeeping(second.inbound, second.own).once()
    first.send("b@b.example", 1)
    assert await second.waits_for(2) == ["m0", "m1"]


async def failing(peer: Peer) -> None:
    """Wait until a try of ``peer`` has failed."""
    async with asyncio.timeout(15):
        while not any(lane.failures for lane in peer.outbox.lanes()):
            await asyncio.sleep(0.01)


async def behind(first: Peer, second: Peer, proxy: FaultProxy) -> None:
    """Put ``proxy`` before ``second`` in the eyes of ``first``."""
    first.knows(second, proxy.port)
    second.api._mount = Mount(f"http://127.0.0.1:{proxy.port}{MOUNT}", MOUNT)
