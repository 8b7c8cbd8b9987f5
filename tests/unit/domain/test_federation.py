"""Numbering: whatever is killed, cut, repeated or restored, each row ends up at the receiver exactly once, in order."""

import copy
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.domain.federation import REMEMBERED, Numbering, Reception, Verdict


@dataclass
class Origin:
    """Rows on disk and the numbering stored with them."""

    numbering: Numbering
    rows: list[str] = field(default_factory=list)
    epochs: int = 0

    def renumber(self) -> None:
        self.epochs += 1
        self.numbering.renumber(f"e{self.epochs}-{random.random()}", len(self.rows))


@dataclass
class Receiver:
    """What is stored, and what was taken in any epoch."""

    reception: Reception
    mailbox: list[str] = field(default_factory=list)


def exchange(origin: Origin, receiver: Receiver, size: int, answer_lost: bool) -> None:
    """One request and its answer, as the outbox and the gate do it."""
    numbering, rows = origin.numbering, origin.rows[:size]
    numbering.assign(max(0, len(rows) - numbering.in_doubt))
    entries = list(enumerate(rows, numbering.settled + 1))
    verdict, known = receiver.reception.examine(numbering.epoch, entries)
    if verdict is Verdict.TAKE:
        new = entries[known:]
        for _, name in new:
            if numbering.previous_named is None or name not in receiver.mailbox:
                receiver.mailbox.append(name)
        if new:
            receiver.reception.take(numbering.epoch, new, {})
        if answer_lost:
            return
        epoch = receiver.reception.epoch or numbering.epoch
        count = numbering.answered(epoch, receiver.reception.highest)
        if count is None:
            origin.renumber()
        else:
            del origin.rows[:count]
        return
    if answer_lost:
        return
    origin.renumber()


def drain(origin: Origin, receiver: Receiver) -> None:
    for _ in range(300):
        if not origin.rows:
            return
        exchange(origin, receiver, 7, False)
    raise AssertionError("the two sides do not come to an end")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("queue"), st.integers(1, 10)),
        st.tuples(st.just("send"), st.integers(1, 7)),
        st.tuples(st.just("lose"), st.integers(1, 7)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=300, deadline=None)
def test_exactly_once_without_restores(plan: list[tuple[str, int]]) -> None:
    origin, receiver = Origin(Numbering("e0")), Receiver(Reception())
    names = iter(range(10**6))
    queued: list[str] = []
    for step, size in plan:
        if step == "queue":
            fresh = [str(next(names)) for _ in range(size)]
            queued += fresh
            origin.rows += fresh
        elif step == "restart":
            origin, receiver = copy.deepcopy(origin), copy.deepcopy(receiver)
        else:
            exchange(origin, receiver, size, step == "lose")
    drain(origin, receiver)
    assert receiver.mailbox == queued
    assert origin.epochs == 0


@given(steps, st.integers(0, 59), st.integers(0, 59), st.sampled_from(["origin", "receiver"]))
@settings(max_examples=500, deadline=None)
def test_restored_backup_loses_and_repeats_nothing_that_can_be_known(
    plan: list[tuple[str, int]], saved_at: int, restored_at: int, side: str
) -> None:
    """The origin restored: rows come back, none is shown twice. The receiver restored: what it holds is kept once."""
    origin, receiver = Origin(Numbering("e0")), Receiver(Reception())
    names = iter(range(10**6))
    backup: tuple[Origin, Receiver] = copy.deepcopy((origin, receiver))
    for place, (step, size) in enumerate(plan):
        if place == saved_at:
            backup = copy.deepcopy((origin, receiver))
        if place == restored_at > saved_at:
            if side == "origin":
                origin = copy.deepcopy(backup[0])
            else:
                receiver = copy.deepcopy(backup[1])
        if step == "queue":
            origin.rows += [str(next(names)) for _ in range(size)]
        elif step != "restart":
            exchange(origin, receiver, size, step == "lose")
    waiting = list(origin.rows)
    drain(origin, receiver)
    assert len(receiver.mailbox) == len(set(receiver.mailbox))
    assert set(waiting) <= set(receiver.mailbox)


def test_answer_that_covers_what_was_never_assigned() -> None:
    numbering = Numbering("e", settled=2, assigned=4)
    assert numbering.answered("e", 5) is None
    assert numbering.answered("e", 1) is None
    assert numbering.answered("other", 3) is None
    assert numbering.answered("e", 3) == 1
    assert Numbering("e").answered("other", 9) == 0


def test_previous_epoch_is_named_until_the_old_rows_are_settled() -> None:
    numbering = Numbering("e", settled=2, assigned=4)
    numbering.renumber("f", 2)
    numbering.assign(3)
    assert (numbering.epoch, numbering.previous_named) == ("f", "e")
    assert numbering.answered("f", 1) == 1
    assert numbering.previous_named == "e"
    assert numbering.answered("f", 2) == 1
    assert numbering.previous_named is None


def test_receiver_verdicts() -> None:
    reception = Reception()
    assert reception.examine("e", [(2, "b")]) == (Verdict.GAP, 0)
    assert reception.examine("e", [(1, "a"), (2, "b")]) == (Verdict.TAKE, 0)
    reception.take("e", [(1, "a"), (2, "b"), (3, "")], {2: "bad"})
    assert reception.examine("e", [(2, "b"), (3, ""), (4, "d")]) == (Verdict.TAKE, 2)
    assert reception.examine("e", [(2, "x")]) == (Verdict.RESTORED, 0)
    assert reception.examine("e", [(2, "")]) == (Verdict.TAKE, 1)  # a stanza that was sent and then given up
    assert reception.examine("e", [(3, "c")]) == (Verdict.RESTORED, 0)  # a void does not come back to life
    assert reception.examine("e", [(5, "e")]) == (Verdict.GAP, 0)
    assert reception.still_rejected(1) == {2: "bad"}
    assert reception.still_rejected(3) == {}
    reception.take("f", [(1, "a")], {})
    assert reception.examine("e", [(1, "a")]) == (Verdict.RESTORED, 0)


def test_number_older_than_what_is_remembered() -> None:
    reception = Reception()
    reception.take("e", [(number, str(number)) for number in range(1, REMEMBERED + 3)], {})
    assert reception.examine("e", [(2, "2")]) == (Verdict.RESTORED, 0)
    assert reception.examine("e", [(3, "3")]) == (Verdict.TAKE, 1)
