"""Permissions to upload: what a token holds, and what is promised meanwhile."""

import pytest

from homeserver.domain.errors import Forbidden
from homeserver.services.slots import Held, Slot, Slots, sign, verify
from tests.kit.clocks import FakeClock

KEY = b"k" * 32


def slot(id_: str, account: int = 1, size: int = 10, until: float = 300.0, name: str = "a") -> Slot:
    return Slot(id_, account, name, "", size, until)


def test_a_token_holds_its_slot() -> None:
    made = Slot("a" * 32, 7, "名前 x.png", "image/png", 2**40, 1.5, 9.25)
    token = sign(made, KEY)
    assert verify(token, KEY) == made
    assert token.isascii()
    assert " " not in token


@pytest.mark.parametrize("token", ["", ".", "a.b", "é.é", "A" * 5000, sign(slot("a"), b"another")])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(Forbidden):
        verify(token, KEY)


def test_the_longest_name_fits_a_token() -> None:
    made = Slot("a" * 32, 2**31, "\u20ac" * 66, "a" * 100 + "/" + "b" * 100, 2**53, 1e10, 1e10)
    assert verify(sign(made, KEY), KEY) == made


def test_promises_end_with_their_slots() -> None:
    clock = FakeClock(0.0)
    slots = Slots(clock.now)
    slots.hold(slot("a"))
    clock.advance(100)
    slots.hold(slot("b", until=400.0))
    slots.hold(slot("c", account=2, until=400.0))
    assert slots.of(1) == Held(2, 20, 300.0)
    assert (slots.waiting, slots.bytes) == (3, 30)
    clock.advance(200)
    assert slots.of(1) == Held(1, 10, 400.0)
    assert not slots.holds("a")
    clock.advance(100)
    assert (slots.of(1), slots.of(2), slots.waiting, slots.bytes) == (Held(), Held(), 0, 0)


def test_an_upload_keeps_its_room_until_it_ends() -> None:
    clock = FakeClock(0.0)
    slots = Slots(clock.now)
    slots.hold(slot("a"))
    slots.run(slot("a"))
    clock.advance(1000)
    assert slots.is_running("a")
    assert slots.of(1) == Held(1, 10, None)
    slots.release("a")
    assert (slots.of(1), slots.bytes, slots.running) == (Held(), 0, 0)


def test_a_slot_whose_upload_broke_off_is_held_again() -> None:
    clock = FakeClock(0.0)
    slots = Slots(clock.now)
    slots.hold(slot("a"))
    slots.run(slot("a"))
    slots.release("a", again=True)
    assert slots.holds("a")
    assert slots.of(1) == Held(1, 10, 300.0)
    slots.run(slot("a"))
    clock.advance(300)
    slots.release("a", again=True)
    assert not slots.holds("a")
    assert slots.bytes == 0


def test_a_slot_is_held_once() -> None:
    slots = Slots(FakeClock(0.0).now)
    slots.hold(slot("a"))
    slots.hold(slot("a"))
    assert slots.bytes == 10
