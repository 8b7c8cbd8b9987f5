"""What waits for somebody who is not there, does not listen or cannot be reached: R-07, R-08, R-11, R-21."""

import asyncio
import sqlite3

import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode, MakePair
from tests.kit.counted import CountedClient
from tests.kit.node import ParleyServer
from tests.kit.raw import StreamClosed
from tests.kit.wire import resident_bytes

MEBIBYTE = 1 << 20


async def begun(node: ParleyServer, place: int, *, presence: bool = True) -> CountedClient:
    """A connection of one of the accounts."""
    return await CountedClient(node.endpoint, node.accounts[place]).begin(presence=presence)


def stanza_ids(client: CountedClient) -> list[str]:
    return [
        found.get("id", "")
        for message in client.messages
        for found in message.iterfind(f"{{{ns.STANZA_ID}}}stanza-id")
        if found.get("by") == client.account.jid
    ]


async def test_r07_who_never_acknowledges_is_sent_away_and_the_mailbox_keeps_all(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"resume_stanzas": 100}})
    await node.start()
    ann, silent = await begun(node, 0, presence=False), await begun(node, 1)
    sent = [f"m{number}" for number in range(300)]
    for text in sent:
        ann.say(silent.account.jid, text, text)
    await ann.settled(timeout=60)
    with pytest.raises(StreamClosed) as end:
        await silent.heard(len(sent), timeout=60)
    assert end.value.condition == "policy-violation"
    assert 0 < len(silent.messages) <= 101
    again = CountedClient(node.endpoint, node.accounts[1])
    assert not await again.resume(silent), "what could not be kept cannot be resumed"
    returned = await begun(node, 1, presence=False)
    returned.send("<presence/>")
    while len(returned.messages) < len(sent):
        await returned.heard(len(returned.messages) + 1, timeout=60)
        returned.acknowledge()
    await returned.settled(timeout=60)
    assert returned.texts() == sent
    assert stanza_ids(returned)[: len(silent.messages)] == stanza_ids(silent)


@pytest.mark.heavy
async def test_r07_sleeping_client_costs_bounded_memory(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"resume_bytes": "1 MiB"}})
    await node.start()
    ann, asleep = await begun(node, 0, presence=False), await begun(node, 1)
    asleep.raw.abort()
    text = "z" * 10_000
    for number in range(500):
        ann.say(asleep.account.jid, text, f"warm{number}")
    await ann.settled(timeout=60)
    before = resident_bytes(node.pid)
    for number in range(3000):
        ann.say(asleep.account.jid, text, f"m{number}")
        if number % 100 == 99:
            await ann.settled(timeout=60)
    grown = resident_bytes(node.pid) - before
    assert grown < 20 * MEBIBYTE, f"{grown} bytes more for 30 MB that wait"


async def test_r11_own_server_killed_while_the_peer_is_away(make_pair: MakePair) -> None:
    one, two = make_pair(["ann", "bob"])
    await asyncio.gather(one.start(), two.start())
    ann, there = await begun(one, 0), two.accounts[1]
    ann.say(there.jid, "m0", "i0")
    await ann.settled()
    await two.kill9()
    sent = [f"m{number}" for number in range(1, 41)]
    for text in sent[:20]:
        ann.say(there.jid, text, text)
    await ann.settled()
    await one.kill9()
    await one.start()
    back = CountedClient(one.endpoint, one.accounts[0])
    assert await back.resume(ann)
    for text in sent[20:]:
        back.say(there.jid, text, text)
    await back.settled()
    await one.kill9()
    await asyncio.gather(one.start(), two.start())
    bob = await begun(two, 1)
    await bob.heard(1 + len(sent), timeout=60)
    await bob.quiet()
    assert bob.texts() == ["m0", *sent]
    assert stanza_ids(bob) == [identity for identity, _ in await bob.archive()]
    late = CountedClient(one.endpoint, one.accounts[0])
    assert await late.resume(back)
    await late.quiet()
    assert late.texts() == [], "nothing came back"


async def test_r08_peer_away_for_many_tries_gets_all_at_once_on_return(make_pair: MakePair) -> None:
    """The back-off is short here, so that a few seconds are what an hour is."""
    one, two = make_pair(["ann", "bob"], extra={"federation": {"backoff_min": "0.1 seconds", "backoff_max": "1 hour"}})
    await asyncio.gather(one.start(), two.start())
    ann, there = await begun(one, 0), two.accounts[1]
    ann.say(there.jid, "m0", "m0")
    await ann.settled()
    bob = await begun(two, 1)
    await bob.heard(1, timeout=30)
    await two.kill9()
    sent = [f"m{number}" for number in range(1, 31)]
    for text in sent:
        ann.say(there.jid, text, text)
        await ann.settled()
        await asyncio.sleep(0.1)
    await two.start()
    bob = await begun(two, 1)
    while "m30" not in bob.texts():
        await bob.heard(len(bob.messages) + 1, timeout=60)
    await bob.quiet()
    assert [text for _, text in await bob.archive()] == ["m0", *sent]
    assert [text for text in bob.texts() if text != "m0"] == sent
    assert ann.texts() == [], "nothing was sent back for a short absence"


async def test_r21_broken_message_at_the_head_of_a_mailbox_does_not_hold_up_the_others(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann = await begun(node, 0, presence=False)
    for text in ("broken", "nobody", "good"):
        ann.say(node.accounts[1].jid, text, text)
    await ann.settled()
    await node.stop()
    store = sqlite3.connect(next(node.data.glob("*.db")))
    ids = [id_ for (id_,) in store.execute("SELECT id FROM log ORDER BY id")]
    store.execute("UPDATE log SET payload = ? WHERE id = ?", (b"<message from='a@b'><body>\xff", ids[0]))
    store.execute("UPDATE log SET payload = ? WHERE id = ?", (b"", ids[1]))
    store.commit()
    store.close()
    await node.start()
    for _ in range(2):
        bob = await begun(node, 1, presence=False)
        bob.send("<presence/>")
        await bob.heard(1)
        await bob.quiet()
        assert bob.texts() == ["good"]
        await bob.raw.close()
    assert str(ids[0]) in node.log_tail(200), "the operator is told which it is"
    back = await begun(node, 0, presence=False)
    bob = await begun(node, 1)
    back.say(bob.account.jid, "after", "after")
    while "after" not in bob.texts():
        await bob.heard(len(bob.messages) + 1)
