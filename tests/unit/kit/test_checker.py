"""The checker must see every violation it exists for: each is planted here."""

import pytest

from tests.kit.checker import Key, Ledger, Verdict

A = "ann@one.example"
B = "bob@two.example"


def key(number: int, sender: str = A, recipient: str = B) -> Key:
    return Key(sender, recipient, number)


@pytest.fixture
def ledger() -> Ledger:
    """Three messages, all went well."""
    made = Ledger()
    for number in (1, 2, 3):
        made.sent(key(number))
        made.acknowledged(key(number))
        made.received(key(number), A, B, f"id{number}")
        made.confirmed(key(number))
    for owner in (A, B):
        made.archived(owner, [(f"id{number}", key(number)) for number in (1, 2, 3)])
    return made


def only(verdict: Verdict, **expected: int) -> None:
    assert verdict.failures() == expected, verdict.report()


def test_a_clean_run_has_no_failures(ledger: Ledger) -> None:
    only(ledger.verdict())
    assert ledger.verdict().received == 3


def test_acknowledged_and_nowhere_is_lost(ledger: Ledger) -> None:
    ledger.sent(key(4))
    ledger.acknowledged(key(4))
    only(ledger.verdict(), lost_hard=1, lost_mam=2)


def test_unacknowledged_may_vanish(ledger: Ledger) -> None:
    ledger.sent(key(4))
    only(ledger.verdict())


def test_only_in_the_archive_is_lost_for_clients_without_archive(ledger: Ledger) -> None:
    ledger.sent(key(4))
    ledger.acknowledged(key(4))
    for owner in (A, B):
        ledger.archived(owner, [(f"id{number}", key(number)) for number in (1, 2, 3, 4)])
    only(ledger.verdict())
    only(ledger.verdict(archive=False), lost_hard=1)


def test_received_but_missing_in_one_archive_is_lost_there(ledger: Ledger) -> None:
    ledger.archived(A, [("id1", key(1)), ("id3", key(3))])
    only(ledger.verdict(), lost_mam=1)


def test_two_archive_entries_are_doubled(ledger: Ledger) -> None:
    ledger.archived(A, [("id1", key(1)), ("id2", key(2)), ("id3", key(3)), ("id4", key(2))])
    verdict = ledger.verdict()
    only(verdict, doubled=1)
    assert verdict.doubled_archive == 1


def test_two_live_stanza_ids_are_doubled() -> None:
    ledger = Ledger()
    ledger.sent(key(1))
    ledger.received(key(1), A, B, "x")
    ledger.received(key(1), A, B, "y")
    assert ledger.verdict(archive=False).doubled_ids == 1


def test_live_id_that_is_not_the_archive_id_is_doubled(ledger: Ledger) -> None:
    ledger.received(key(2), A, B, "other")
    assert ledger.verdict().doubled_ids == 1


def test_repeat_before_the_acknowledgement_arrived_is_allowed_with_the_same_id() -> None:
    ledger = Ledger()
    ledger.sent(key(1))
    ledger.received(key(1), A, B, "x")
    ledger.received(key(1), A, B, "x")
    assert ledger.verdict(archive=False).failures() == {}


def test_repeat_after_the_acknowledgement_is_doubled(ledger: Ledger) -> None:
    ledger.received(key(3), A, B, "id3")
    verdict = ledger.verdict()
    only(verdict, doubled=1)
    assert verdict.doubled_after_ack == 1


def resumed(*received: int, killed: bool) -> Ledger:
    """Two messages were received, then the client resumed, and these came."""
    ledger = Ledger()
    for number in (1, 2):
        ledger.sent(key(number))
        ledger.received(key(number), A, B, f"id{number}")
    if killed:
        ledger.killed([B])
    ledger.covered(B, [key(1), key(2)])
    for number in received:
        ledger.received(key(number), A, B, f"id{number}")
    return ledger


def test_repeat_after_a_resumption_that_covered_it_is_doubled() -> None:
    verdict = resumed(2, killed=False).verdict(archive=False)
    only(verdict, doubled=1)
    assert verdict.doubled_after_resume == 1


def test_the_last_may_come_once_more_after_a_kill() -> None:
    verdict = resumed(2, killed=True).verdict(archive=False)
    only(verdict)
    assert verdict.repeated == 1


def test_what_comes_once_more_is_the_end_of_what_was_received() -> None:
    verdict = resumed(1, killed=True).verdict(archive=False)
    only(verdict, doubled=1)
    assert verdict.repeated == 0


def test_a_repeat_that_comes_again_is_doubled() -> None:
    ledger = resumed(2, killed=True)
    ledger.killed([B])
    ledger.covered(B, [key(2)])
    ledger.received(key(2), A, B, "id2")
    only(ledger.verdict(archive=False), doubled=1)


def test_a_kill_excuses_one_resumption() -> None:
    ledger = resumed(killed=True)
    ledger.covered(B, [key(2)])
    ledger.received(key(2), A, B, "id2")
    only(ledger.verdict(archive=False), doubled=1)


def test_swapped_live_delivery_is_out_of_order() -> None:
    ledger = Ledger()
    for number in (1, 2, 3):
        ledger.sent(key(number))
    for number in (1, 3, 2):
        ledger.received(key(number), A, B, None)
    assert ledger.verdict(archive=False).out_of_order_live == 1


def test_repeats_of_old_messages_are_not_out_of_order() -> None:
    ledger = Ledger()
    for number in (1, 2):
        ledger.sent(key(number))
    for number in (1, 2, 1, 2):
        ledger.received(key(number), A, B, "x" * number)
    assert ledger.verdict(archive=False).failures() == {}


def test_swapped_archive_is_out_of_order_and_other_pairs_do_not_mix(ledger: Ledger) -> None:
    other = key(1, sender="cat@one.example")
    ledger.sent(other)
    ledger.archived(B, [("id1", key(1)), ("id3", key(3)), ("x", other), ("id2", key(2))])
    only(ledger.verdict(), out_of_order=1)


def test_never_sent_is_a_ghost(ledger: Ledger) -> None:
    ledger.received(key(99), A, B, "id99")
    only(ledger.verdict(), ghosts=1)


def test_wrong_from_is_a_ghost(ledger: Ledger) -> None:
    ledger.received(key(1), "eve@one.example", B, "id1")
    only(ledger.verdict(), ghosts=1)


def test_delivery_to_another_account_is_a_ghost(ledger: Ledger) -> None:
    ledger.received(key(1), A, "eve@one.example", "id1")
    only(ledger.verdict(), ghosts=1)


def test_entry_in_a_stranger_archive_is_a_ghost(ledger: Ledger) -> None:
    ledger.archived("eve@one.example", [("id1", key(1))])
    only(ledger.verdict(), ghosts=1)


def test_acknowledged_then_bounced_is_counted(ledger: Ledger) -> None:
    ledger.bounced(key(2))
    only(ledger.verdict(), bounced=1)


def test_recovery_times() -> None:
    ledger = Ledger()
    for seconds in (0.5, 3.0, 1.0):
        ledger.recovered(seconds)
    verdict = ledger.verdict()
    assert (verdict.recovery_p50, verdict.recovery_max) == (1.0, 3.0)
    assert "p50 1.00 s, max 3.00 s" in verdict.report()


def test_unreceived_counts_only_the_asked_recipients(ledger: Ledger) -> None:
    ledger.sent(key(4))
    ledger.acknowledged(key(4))
    assert ledger.unreceived([B]) == 1
    assert ledger.unreceived([A]) == 0


def test_key_travels_in_the_body() -> None:
    assert Key.of_body(key(7).body()) == key(7)
    assert Key.of_body("hello") is None
    assert Key.of_body("storm a b x") is None
