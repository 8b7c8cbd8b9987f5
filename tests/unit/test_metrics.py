from pathlib import Path

import pytest

from homeserver.counts import Spread, Tally
from homeserver.metrics import FAMILIES, PAGE, Metrics, page

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh() -> None:
    assert (ROOT / PAGE).read_text() == page(), "stale: run `python -m homeserver.metrics`"


def test_numbers_are_read_when_they_are_asked_for() -> None:
    metrics, logins, seconds = Metrics(), Tally("accepted", "refused"), Spread((0.1, 1.0))
    metrics.read_from("logins", lambda: logins.counts)
    metrics.read_from("commit_seconds", lambda: seconds)
    metrics.read_from("messages_stored", lambda: 7)
    logins.add("accepted")
    for value in (0.05, 0.1, 0.5, 3):
        seconds.observe(value)
    body, content_type = metrics.exposition()
    text = body.decode()
    assert content_type.startswith("application/openmetrics-text")
    assert 'parley_logins_total{outcome="accepted"} 1' in text
    assert 'parley_logins_total{outcome="refused"} 0' in text
    assert "parley_messages_stored_total 7" in text
    assert 'parley_commit_seconds_bucket{le="0.1"} 2' in text
    assert 'parley_commit_seconds_bucket{le="1.0"} 3' in text
    assert 'parley_commit_seconds_bucket{le="+Inf"} 4' in text
    assert "process_resident_memory_bytes" in text
    assert text.endswith("# EOF\n")


def test_labels_are_a_fixed_set() -> None:
    tally = Tally("one", "other")
    with pytest.raises(KeyError):
        tally.add("anything")
    tally.note("anything")
    assert tally.counts == {"one": 0, "other": 1}
    metrics = Metrics()
    metrics.read_from("logins", lambda: {"accepted": 1, "refused": 2, "planted": 3})
    assert b"planted" not in metrics.exposition()[0]


def test_only_what_is_in_the_list_can_be_read() -> None:
    metrics = Metrics()
    assert metrics.unread() == [family.name for family in FAMILIES]
    with pytest.raises(KeyError):
        metrics.read_from("nothing", lambda: 0)


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.read_from("messages_stored", lambda: 1)
    assert b"parley_messages_stored" not in other.exposition()[0]
