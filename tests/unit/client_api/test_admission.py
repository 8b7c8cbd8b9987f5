"""Turns of those who log in."""

import asyncio
from dataclasses import dataclass, field

import pytest

from client_api.xmpp.admission import PASSES, Admission

CROWD = 50


@dataclass
class Crowd:
    """Many pieces of work that each wait once, and what ran in which turn of the loop."""

    turn: int = 0
    ran: list[int] = field(default_factory=list)

    async def work(self, store: asyncio.Event) -> None:
        self.ran.append(self.turn)
        await store.wait()
        self.ran.append(self.turn)

    async def count(self, tasks: list[asyncio.Task[None]]) -> None:
        while not all(task.done() for task in tasks):
            self.turn += 1
            await asyncio.sleep(0)


async def _run(work: asyncio.Future[None] | object) -> None:
    await work  # type: ignore[misc]


async def test_few_of_a_crowd_go_on_in_one_turn() -> None:
    admission, crowd = Admission(), Crowd()
    late = asyncio.Event()
    tasks = [asyncio.create_task(_run(admission.paced(crowd.work(late)))) for _ in range(CROWD)]
    counting = asyncio.create_task(crowd.count(tasks))
    while len(crowd.ran) < CROWD:
        await asyncio.sleep(0)
    late.set()
    await counting
    assert len(crowd.ran) == 2 * CROWD
    assert max(crowd.ran.count(turn) for turn in set(crowd.ran)) <= 2 * PASSES
    assert len(admission) == 0


async def test_one_alone_waits_for_no_turn() -> None:
    admission = Admission()
    assert admission.passes()
    ran = []

    async def work() -> None:
        ran.append(True)

    task = asyncio.create_task(_run(admission.paced(work())))
    await asyncio.sleep(0)
    assert task.done()
    assert ran == [True]


async def test_nobody_passes_those_who_wait() -> None:
    admission = Admission()
    while admission.passes():
        pass
    turn = admission.turn()
    assert not admission.passes()
    await turn
    assert admission.passes()


async def test_errors_reach_the_caller_and_the_work() -> None:
    admission = Admission()
    refused = asyncio.get_running_loop().create_future()
    seen = []

    async def work() -> None:
        try:
            await refused
        except ValueError:
            seen.append("work")
            raise

    refused.set_exception(ValueError("refused"))
    with pytest.raises(ValueError, match="refused"):
        await admission.paced(work())
    assert seen == ["work"]


@pytest.mark.parametrize("at_turn", [True, False], ids=["waiting for its turn", "waiting for the store"])
async def test_cancelled_work_cleans_up_and_holds_up_nobody(at_turn: bool) -> None:
    admission, cleaned, begun = Admission(), asyncio.Event(), asyncio.Event()
    store = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            begun.set()
            await store
        finally:
            cleaned.set()

    task = asyncio.create_task(_run(admission.paced(work())))
    await begun.wait()
    if at_turn:
        store.set_result(None)
        while admission.passes():
            pass
        await asyncio.sleep(0)  # the task finds no turn left
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
    await admission.turn()
    assert len(admission) == 0


async def test_strangers_are_served_in_the_order_they_came() -> None:
    admission, served, done = Admission(), [], asyncio.Event()

    @dataclass
    class Stranger:
        number: int

        def admitted(self) -> None:
            served.append(self.number)
            if self.number == CROWD - 1:
                done.set()

    for number in range(CROWD):
        admission.enter(Stranger(number))
    assert not served
    await done.wait()
    assert served == list(range(CROWD))
