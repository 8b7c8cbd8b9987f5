"""Single faults followed message by message: R-05, R-06, R-16, R-18, R-19."""

import asyncio
import os
import signal
import ssl
from pathlib import Path

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import error_of
from tests.e2e.conftest import MakeNode
from tests.kit.counted import CountedClient
from tests.kit.node import HOST, ParleyServer

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def clients(node: ParleyServer) -> tuple[CountedClient, CountedClient]:
    """Connections of the first two accounts, not begun."""
    return CountedClient(node.endpoint, node.accounts[0]), CountedClient(node.endpoint, node.accounts[1])


def stanza_ids(client: CountedClient) -> list[str]:
    return [
        found.get("id", "")
        for message in client.messages
        for found in message.iterfind(f"{{{ns.STANZA_ID}}}stanza-id")
        if found.get("by") == client.account.jid
    ]


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed in between"])
async def test_r05_what_a_client_sends_again_is_stored_once(make_node: MakeNode, killed: bool) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    ann.say(bob.account.jid, "once", "i1")
    await ann.settled()
    await bob.heard(1)
    if killed:
        await node.kill9()
        await node.start()
    again, reader = clients(node)
    await again.begin()
    again.say(bob.account.jid, "once", "i1")
    again.say(bob.account.jid, "other text", "i1")
    await again.settled()
    await reader.begin(presence=False)
    for owner in (again, reader):
        entries = await owner.archive()
        assert [text for _, text in entries] == ["once", "other text"]
        assert len({identity for identity, _ in entries}) == 2


@pytest.mark.parametrize("killed", [False, True], ids=["lost connection", "killed server"])
async def test_r06_resumption_gives_exactly_what_was_missing(make_node: MakeNode, killed: bool) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    for number in (1, 2, 3):
        ann.say(bob.account.jid, f"m{number}", f"i{number}")
    await ann.settled()
    await bob.heard(3)
    bob.acknowledge()
    await bob.settled()
    bob.raw.abort()
    ann.say(bob.account.jid, "m4", "i4")
    ann.say(bob.account.jid, "m5", "i5")
    await ann.settled()
    if killed:
        await node.kill9()
        await node.start()
    _, returned = clients(node)
    assert await returned.resume(bob)
    await returned.heard(2)
    await returned.quiet()
    assert returned.texts() == ["m4", "m5"]
    ids = stanza_ids(bob) + stanza_ids(returned)
    assert ids == [identity for identity, _ in await returned.archive()]


async def test_r06_after_a_kill_at_most_the_last_comes_again_with_its_id(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    for number in (1, 2, 3):
        ann.say(bob.account.jid, f"m{number}", f"i{number}")
        await ann.settled()
        await bob.heard(number)
        if number == 1:
            bob.acknowledge()
            await bob.settled()
    await node.kill9()
    await node.start()
    _, returned = clients(node)
    assert await returned.resume(bob)
    back, _ = clients(node)
    assert await back.resume(ann)
    back.say(bob.account.jid, "m4", "i4")
    await back.settled()
    while "m4" not in returned.texts():
        await returned.heard(len(returned.messages) + 1)
    repeated = stanza_ids(returned)[:-1]
    assert repeated == stanza_ids(bob)[3 - len(repeated) :], "what comes again is the end of what was sent"
    assert len(repeated) <= 1, "only what was sent after the row was last written"


async def test_r06_after_a_kill_what_the_count_covers_does_not_come_again(make_node: MakeNode) -> None:
    """The connection broke before the last were read, and the client had acknowledged none of the others."""
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    bob.acknowledge()
    await bob.settled()
    for number in range(1, 7):
        ann.say(bob.account.jid, f"m{number}", f"i{number}")
        await ann.settled()
        await bob.heard(number)
    bob.received -= 3
    await node.kill9()
    await node.start()
    _, returned = clients(node)
    assert await returned.resume(bob)
    await returned.heard(3)
    await returned.quiet()
    assert returned.texts() == ["m4", "m5", "m6"]
    assert stanza_ids(returned) == stanza_ids(bob)[3:]


async def test_r06_what_comes_while_unavailable_is_given_on_return(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    bob.send("<presence type='unavailable'/>")
    await bob.settled()
    ann.say(bob.account.jid, "m1", "i1")
    await ann.settled()
    bob.send("<presence/>")
    await bob.heard(1)
    ann.say(bob.account.jid, "m2", "i2")
    await bob.heard(2)
    assert bob.texts() == ["m1", "m2"]


async def test_r06_session_that_was_not_available_gets_what_waits_when_it_is(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await bob.begin(presence=False)
    await ann.begin()
    ann.say(bob.account.jid, "m1", "i1")
    await ann.settled()
    await node.kill9()
    await node.start()
    _, returned = clients(node)
    assert await returned.resume(bob)
    await returned.quiet()
    await returned.quiet()
    returned.send("<presence/>")
    await returned.heard(1)
    assert returned.texts() == ["m1"]


async def test_r06_sender_learns_from_resumption_what_arrived(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    ann.say(bob.account.jid, "m1", "i1")
    await ann.settled()
    await node.kill9()
    await node.start()
    back, _ = clients(node)
    assert await back.resume(ann)
    assert back.handled == ann.sent


async def test_r16_full_disk_refuses_and_recovers(make_node: MakeNode, small_disk: Path) -> None:
    node = make_node(["ann", "bob"], data=small_disk / "data")
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    ann.say(bob.account.jid, "before", "before")
    await ann.settled()
    filler = small_disk / "filler"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler.write_bytes(b"\0" * (free - 256 * 1024))
    sent = [f"{number} " + "x" * 8000 for number in range(200)]
    for number, text in enumerate(sent):
        ann.say(bob.account.jid, text, f"full{number}")
    refused: set[str] = set()
    await ann.settled(timeout=30)
    await ann.quiet()
    for message in ann.messages:
        assert error_of(message) == "resource-constraint"
        refused.add(message.get("id", ""))
    assert refused, "the disk was not full"
    late = CountedClient(node.endpoint, node.accounts[1])
    await late.raw.login(node.accounts[1])
    filler.unlink()
    ann.say(bob.account.jid, "after", "after")
    await ann.settled(timeout=30)
    await ann.quiet()
    assert "after" not in {message.get("id") for message in ann.messages}
    stored = ["before", *(text for number, text in enumerate(sent) if f"full{number}" not in refused), "after"]
    assert [text for _, text in await ann.archive()] == stored
    await bob.quiet()
    assert [text for _, text in await bob.archive()] == stored
    assert bob.texts() == stored


@pytest.mark.heavy
async def test_r18_clock_jumps_keep_ids_growing_and_sessions_alive(make_node: MakeNode, tmp_path: Path) -> None:
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    node = make_node(
        ["ann", "bob"],
        env={
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    await node.start()
    ann, bob = clients(node)
    await ann.begin()
    await bob.begin()
    for number, jump in enumerate(("+0", "+3600", "-3600", "-3610", "+1"), 1):
        offset.write_text(f"{jump}\n")
        ann.say(bob.account.jid, f"m{number}", f"i{number}")
        await ann.settled()
        await bob.heard(number)
        bob.acknowledge()
        await bob.quiet()
        fresh, _ = clients(node)
        await fresh.begin(presence=False)
        await fresh.raw.close()
    bob.raw.abort()
    _, returned = clients(node)
    assert await returned.resume(bob)
    entries = await returned.archive()
    assert [text for _, text in entries] == bob.texts() == [f"m{number}" for number in range(1, 6)]
    ids = [int(identity) for identity, _ in entries]
    assert ids == sorted(set(ids))


async def shown_certificate(node: ParleyServer) -> bytes:
    """What a new client is shown on the port with TLS from the first byte."""
    context = ssl.create_default_context(cafile=node.authority.ca_file)
    _, writer = await asyncio.open_connection(HOST, node.ports.xmpps, ssl=context, server_hostname=node.domain)
    try:
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown
    finally:
        writer.transport.abort()


async def test_r19_broken_certificate_at_reload_is_not_taken_and_a_good_one_is(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, _ = clients(node)
    await ann.begin()
    first = await shown_certificate(node)
    certificate, _ = node.certificate
    certificate.write_text("not a certificate")
    os.kill(node.pid, signal.SIGHUP)
    for _ in range(20):
        assert await shown_certificate(node) == first
        await asyncio.sleep(0.02)
    node.authority.issue([node.domain], node.domain)
    os.kill(node.pid, signal.SIGHUP)
    async with asyncio.timeout(10):
        while await shown_certificate(node) == first:
            await asyncio.sleep(0.02)
    await ann.quiet()


async def test_r19_half_written_configuration_at_reload_changes_nothing(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, _ = clients(node)
    await ann.begin()
    text = node.config.read_text()
    node.config.write_text(text[: len(text) // 2])
    os.kill(node.pid, signal.SIGHUP)
    for number in range(20):
        ann.say(node.accounts[1].jid, "still here", f"i{number}")
        await ann.settled()
        await asyncio.sleep(0.02)
    assert node.returncode is None
