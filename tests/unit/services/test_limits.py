"""Token buckets under a clock that the test moves."""

from dataclasses import replace

import pytest

from config.settings import LimitSettings
from config.units import Rate
from homeserver.metrics import FAMILIES
from homeserver.services.limits import LABELS, Bucket, Limit, Limits, address_key
from tests.kit.clocks import FakeClock


def test_a_bucket_gives_its_burst_then_its_rate():
    clock = FakeClock()
    bucket = Bucket(3, 2, clock.monotonic)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait() == pytest.approx(0.5)
    clock.advance(0.5)
    assert bucket.take()
    assert not bucket.take()
    clock.advance(1000)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_charging_may_go_below_zero_and_says_how_long_to_wait():
    clock = FakeClock()
    bucket = Bucket(10, 5, clock.monotonic)
    assert bucket.charge(10) == 0
    assert bucket.charge(10) == pytest.approx(2)
    assert not bucket.take()
    clock.advance(2.2)
    assert bucket.take()


def test_what_costs_more_than_the_bucket_holds_waits_for_a_full_one():
    bucket = Bucket(2, 1, FakeClock().monotonic)
    assert not bucket.take(5)
    assert bucket.wait(5) == 0
    bucket.take(2)
    assert bucket.wait(5) == pytest.approx(2)


def test_keys_and_kinds_do_not_share():
    limits = Limits(replace(LimitSettings(), registrations_per_address=Rate(1, 60)), FakeClock().monotonic)
    assert limits.take(Limit.REGISTRATION, "192.0.2.1") == 0
    assert limits.take(Limit.REGISTRATION, "192.0.2.1") == pytest.approx(60)
    assert limits.take(Limit.REGISTRATION, "192.0.2.2") == 0
    assert limits.take(Limit.REQUEST_ADDRESS, "192.0.2.1") == 0


def test_memory_is_bounded_and_the_oldest_goes_first():
    limits = Limits(replace(LimitSettings(), registrations_per_address=Rate(1, 60)), FakeClock().monotonic, most=2)
    for key in ("a", "b", "a", "c"):
        limits.take(Limit.REGISTRATION, key)
    assert limits.take(Limit.REGISTRATION, "a") > 0
    assert limits.take(Limit.REGISTRATION, "b") == 0


def test_who_guesses_does_not_lock_out_the_owner():
    limits = Limits(replace(LimitSettings(), logins_per_account=Rate(3, 60)), FakeClock().monotonic)
    for _ in range(20):
        limits.login_failed("192.0.2.1", "alice@a.example")
    assert limits.login_wait("192.0.2.1", "alice@a.example") > 0
    assert limits.login_wait("198.51.100.7", "alice@a.example") == 0


def test_an_address_that_guesses_names_is_slowed_for_all_names():
    limits = Limits(replace(LimitSettings(), logins_per_address=Rate(5, 60)), FakeClock().monotonic)
    for number in range(5):
        limits.login_failed("192.0.2.1", f"user{number}@a.example")
    assert limits.login_wait("192.0.2.1", "alice@a.example") > 0


def test_loopback_is_exempt_when_the_setting_says_so():
    free = Limits(replace(LimitSettings(), off_on_loopback=True), FakeClock().monotonic)
    assert all(free.exempt(address) for address in ("127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1"))
    assert not free.exempt("192.0.2.1")
    assert not free.exempt("")
    assert not Limits(LimitSettings(), FakeClock().monotonic).exempt("127.0.0.1")


def test_an_ipv6_network_counts_as_one_address():
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") != address_key("2001:db8:0:1::1")
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"


def test_refusals_and_logins_are_counted():
    limits = Limits(
        replace(
            LimitSettings(),
            logins_per_account=Rate(1, 60),
            requests_per_account=Rate(1, 60),
            stanzas_per_account=Rate(1, 60),
        ),
        FakeClock().monotonic,
    )
    limits.login_accepted()
    for _ in range(2):
        limits.login_failed("192.0.2.1", "alice@a.example")
    assert limits.login_wait("192.0.2.1", "alice@a.example") > 0
    for _ in range(3):
        limits.take(Limit.REQUEST_ACCOUNT, "alice@a.example")
        limits.bucket(Limit.STANZA_ACCOUNT, "alice@a.example").charge()
    assert limits.logins.counts == {"accepted": 1, "refused": 2}
    assert limits.limited.counts == {
        "login": 1,
        "registration": 0,
        "request": 2,
        "stanza": 2,
        "bytes": 0,
        "peer": 0,
    } | dict.fromkeys(("search", "presence", "subscription", "report"), 0)


def test_every_limit_has_a_name_in_the_metrics():
    (family,) = (family for family in FAMILIES if family.name == "limited")
    assert set(LABELS) == set(Limit)
    assert set(LABELS.values()) == set(family.values)


def test_new_rates_hold_for_buckets_that_are_there_and_what_was_taken_stays_taken():
    limits = Limits(replace(LimitSettings(), registrations_per_address=Rate(2, 60)), FakeClock().monotonic)
    for _ in range(2):
        assert limits.take(Limit.REGISTRATION, "a") == 0
    limits.reload(replace(LimitSettings(), registrations_per_address=Rate(3, 60)))
    assert limits.take(Limit.REGISTRATION, "a") == 0
    assert limits.take(Limit.REGISTRATION, "a") > 0
    limits.reload(replace(LimitSettings(), registrations_per_address=Rate(1, 10)))
    assert limits.take(Limit.REGISTRATION, "a") == pytest.approx(30)
    assert limits.take(Limit.REGISTRATION, "b") == 0
    assert limits.take(Limit.REGISTRATION, "b") > 0
