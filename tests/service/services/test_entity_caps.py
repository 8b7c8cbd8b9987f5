"""Learning what clients want: asked once, proven, bounded, kept (XEP-0115, S-71, S-161)."""

from pathlib import Path

import pytest

from homeserver.protocol.caps import Advertised
from homeserver.services import entity_caps as module
from tests.kit import caps
from tests.kit.world import World, world

MOOD = ("urn:mood", "urn:tune")


async def test_one_client_is_asked_for_all_that_advertise_the_same(server: World) -> None:
    first = await server.session("juliet", "balcony")
    await server.send(first, caps.presence(MOOD))
    others = []
    for name in ("romeo", "nurse", "tybalt"):
        others.append(await server.session(name))
        await server.send(others[-1], caps.presence(MOOD))
    assert [len(caps.questions(other.take())) for other in others] == [0, 0, 0]
    asked = await caps.asked(first)
    assert [found.get("from") for found in asked] == ["juliet@a.example"]
    assert asked[0][0].get("node") == f"{caps.NODE}#{caps.ver(MOOD)}"
    assert server.audience.interests(others[0]) == frozenset()
    await caps.reply(server, first, asked[0], MOOD)
    await server.caps.settle()
    for session in (first, *others):
        assert server.audience.interests(session) == frozenset(MOOD)


async def test_a_lie_is_for_the_liar_only(server: World) -> None:
    """S-71: the next one with the same hash is asked, and what it proves is for all."""
    liar, honest, later = [await server.session(name) for name in ("tybalt", "juliet", "romeo")]
    for session in (liar, honest, later):
        await server.send(session, caps.presence(MOOD))
    await caps.answer(server, liar, ["urn:evil"])
    question = (await caps.asked(honest))[0]
    assert server.audience.interests(liar) == frozenset(("urn:evil",))
    assert server.audience.interests(honest) == frozenset()
    assert len(server.caps) == 0
    await caps.reply(server, honest, question, MOOD)
    await server.caps.settle()
    assert caps.questions(later.take()) == []
    assert server.audience.interests(later) == frozenset(MOOD)
    assert len(server.caps) == 1


async def test_silence_does_not_keep_the_answer_from_others(server: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-71: who never answers holds nobody up for long."""
    monkeypatch.setattr(module, "HEDGE", 0.01)
    silent, honest = await server.session("tybalt"), await server.session("juliet")
    for session in (silent, honest):
        await server.send(session, caps.presence(MOOD))
    await caps.answer(server, honest, MOOD)
    await server.caps.settle()
    assert server.audience.interests(silent) == server.audience.interests(honest) == frozenset(MOOD)


async def test_only_the_one_who_was_asked_can_answer(server: World) -> None:
    """S-71: answers of others, or to other ids, are nothing."""
    asked, other = await server.session("juliet"), await server.session("tybalt")
    await server.send(asked, caps.presence(MOOD))
    question = (await caps.asked(asked))[0]
    forged = f"<iq type='result' id='{question.get('id')}' to='juliet@a.example'>{caps.info(MOOD)}</iq>"
    await server.send(other, forged)
    await server.remote("tybalt@far.example/x", forged)
    assert server.audience.interests(asked) == frozenset()
    await server.send(asked, forged)
    await server.caps.settle()
    assert server.audience.interests(asked) == frozenset(MOOD)


async def test_what_cannot_be_proven_is_asked_of_everyone(server: World) -> None:
    """XEP-0115 s5.4: an unknown hash function, or none."""
    one, two = await server.session("juliet"), await server.session("romeo")
    for session in (one, two):
        await server.send(session, caps.presence(MOOD, algorithm="whirlpool"))
    await caps.answer(server, one, ["urn:one"])
    await caps.answer(server, two, ["urn:two"])
    await server.caps.settle()
    assert server.audience.interests(one) == frozenset(("urn:one",))
    assert server.audience.interests(two) == frozenset(("urn:two",))
    assert len(server.caps) == 0


async def test_what_was_proven_outlives_the_process(tmp_path: Path) -> None:
    async with world(tmp_path / "store.db") as server:
        session = await server.session("juliet")
        await server.send(session, caps.presence(MOOD))
        await caps.answer(server, session, MOOD)
        await server.caps.settle()
        await server.settle()
    async with world(tmp_path / "store.db") as server:
        session = await server.session("romeo")
        await server.send(session, caps.presence(MOOD))
        assert caps.questions(session.take()) == []
        assert server.audience.interests(session) == frozenset(MOOD)


async def test_memory_is_bounded_and_the_longest_unused_goes_first(
    server: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-161."""
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    session = await server.session("tybalt")
    for number in range(5):
        nodes = [f"urn:{number}"]
        await server.send(session, caps.presence(nodes))
        await caps.answer(server, session, nodes)
        await server.caps.settle()
    assert len(server.caps) == 3
    known = [server.caps.known(Advertised("sha-1", caps.NODE, caps.ver([f"urn:{number}"]))) for number in range(5)]
    assert [found is not None for found in known] == [False, False, True, True, True]


async def test_one_account_raises_few_questions_at_a_time(server: World) -> None:
    """S-161: a client that changes its hash all the time is not asked about each."""
    session = await server.session("tybalt")
    for number in range(module.MAX_OF_ONE + 10):
        await server.send(session, caps.presence([f"urn:{number}"]))
    assert len(await caps.asked(session, module.MAX_OF_ONE)) == module.MAX_OF_ONE
    honest = await server.session("juliet")
    await server.send(honest, caps.presence(MOOD))
    await caps.answer(server, honest, MOOD)


async def test_a_change_is_learnt_and_an_old_answer_is_not_taken_for_it(server: World) -> None:
    session = await server.session("juliet")
    await server.send(session, caps.presence(["urn:old"]))
    await server.send(session, caps.presence(MOOD))
    for question, nodes in zip(await caps.asked(session, 2), (["urn:old"], MOOD), strict=True):
        await caps.reply(server, session, question, nodes)
    await server.caps.settle()
    assert server.audience.interests(session) == frozenset(MOOD)
    await server.send(session, "<presence/>")
    assert server.audience.interests(session) == frozenset()
