"""The queue of unacknowledged stanzas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.sm import WRAP, HandledCountTooHigh, SentItem, SentQueue


def filled(count: int, start: int = 0) -> SentQueue:
    queue = SentQueue(acknowledged_count=start)
    for number in range(count):
        queue.sent(SentItem(number, b"x" * 10))
    return queue


def test_release_in_order() -> None:
    queue = filled(5)
    assert [item.mailbox_id for item in queue.acknowledged(3)] == [0, 1, 2]
    assert queue.acknowledged(3) == []
    assert [item.mailbox_id for item in queue.unacknowledged()] == [3, 4]
    assert (queue.sent_count, queue.acknowledged_count, queue.size, len(queue)) == (5, 3, 20, 2)


@pytest.mark.parametrize("h", [6, WRAP - 1])
def test_too_high(h: int) -> None:  # S-81
    queue = filled(5)
    with pytest.raises(HandledCountTooHigh):
        queue.acknowledged(h)
    assert len(queue) == 5


def test_going_back_is_refused() -> None:
    queue = filled(5)
    queue.acknowledged(4)
    with pytest.raises(HandledCountTooHigh):
        queue.acknowledged(2)


def test_counters_wrap() -> None:
    queue = filled(5, start=WRAP - 2)
    assert len(queue.acknowledged(1)) == 3
    assert queue.acknowledged_count == WRAP + 1


def test_bounds() -> None:  # S-83
    assert not SentQueue(max_items=1).is_full
    queue = SentQueue(max_items=2, max_bytes=100)
    for _ in range(2):
        queue.sent(SentItem(None, b"x"))
    assert not queue.is_full
    queue.sent(SentItem(None, b"x"))
    assert queue.is_full
    queue.acknowledged(3)
    queue.sent(SentItem(None, b"x" * 101))
    assert queue.is_full


@given(st.lists(st.integers(0, 5), max_size=30))
def test_nothing_is_lost_or_invented(steps: list[int]) -> None:
    queue = SentQueue()
    sent, released = 0, []
    for step in steps:
        for _ in range(step):
            queue.sent(SentItem(sent, b"x"))
            sent += 1
        released += queue.acknowledged(queue.acknowledged_count + len(queue) // 2)
    assert [item.mailbox_id for item in [*released, *queue.unacknowledged()]] == list(range(sent))
