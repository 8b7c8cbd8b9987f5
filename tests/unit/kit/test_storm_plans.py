"""The plans hold what their descriptions promise."""

from tests.e2e.storm import federated, single


def test_single() -> None:
    assert [fault.side for fault in single(20)] == [0] * 20


def test_federated_hits_each_side_ten_times_with_one_absence_and_one_freeze() -> None:
    faults = federated(10)
    assert [sum(fault.side == side for fault in faults) for side in (0, 1)] == [10, 10]
    assert [(fault.side, fault.action, fault.seconds) for fault in faults if fault.seconds] == [
        (1, "kill", 60.0),
        (0, "freeze", 15.0),
    ]


def test_federated_small() -> None:
    for kills in (1, 2, 3):
        faults = federated(kills, down=3, frozen=2)
        assert [sum(fault.side == side for fault in faults) for side in (0, 1)] == [kills, kills]
        assert sorted(fault.side for fault in faults if fault.seconds) == [0, 1]
