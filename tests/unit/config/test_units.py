import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import units


@pytest.mark.parametrize(
    ("text", "size"),
    [("10 MiB", 10 * 1024**2), ("256KiB", 262144), ("10 kB", 10_000), ("1.5 KiB", 1536), (77, 77), ("0 B", 0)],
)
def test_sizes(text: object, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 days", 2592000.0),
        ("1 minute", 60.0),
        ("90s", 90.0),
        ("250 ms", 0.25),
        ("2 weeks", 1209600.0),
        (5, 5.0),
        (0, 0.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "10", "10 mib", "-1 MiB", -1, True, None, 1.5, "1 MiB x"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        units.parse_size(value)


@pytest.mark.parametrize("value", ["", "10", "5 parsecs", "-1 day", -1, False, None, "ss"])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        units.parse_duration(value)


def test_rates() -> None:
    assert units.parse_rate("20 per minute") == units.Rate(20, 60.0)
    assert units.parse_rate("100 per 10 seconds") == units.Rate(100, 10.0)
    assert units.parse_rate("100 per 10 seconds").per_second == 10.0
    for value in ("0 per minute", "20", "20 per 0 seconds", 20, None, "20 per fortnight"):
        with pytest.raises(ValueError, match="a rate such as"):
            units.parse_rate(value)


@given(st.integers(0, 2**53))
def test_a_written_size_reads_back(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.integers(0, 10**6))
def test_a_written_duration_and_rate_read_back(seconds: int) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == seconds
    rate = units.Rate(seconds + 1, float(seconds + 1))
    assert units.parse_rate(units.format_rate(rate)) == rate


def test_domains_take_one_form() -> None:
    assert units.parse_domain("Example.ORG.") == "example.org"
    assert units.parse_domain("xn--bcher-kva.example") == "bücher.example"
    assert units.parse_domain("straße.example") == "straße.example"
    for value in ("", "a b", "-a.example", "a..b", 5, "x" * 64):
        with pytest.raises(ValueError, match="a domain name"):
            units.parse_domain(value)
