"""Accounts: policy, names, passwords, what unknown names are told, what ends with an account."""

import asyncio
import time
from dataclasses import replace

import pytest

from config.settings import AccountSettings
from homeserver.domain.accounts import AccountState, Role
from homeserver.domain.errors import Conflict, Forbidden, NotAcceptable, NotAuthorized, NotFound, RegistrationClosed
from homeserver.services.accounts import UNKNOWN, Accounts, Ending, Revocation
from homeserver.services.passwords import derive
from tests.kit.clocks import FakeClock
from tests.kit.stores import PlainDatabase

OPEN = AccountSettings(registration="open", scram_iterations=4096)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    database = PlainDatabase()

    async def build(settings=OPEN) -> Accounts:
        accounts = Accounts(database, settings, clock, ("a.example", "b.example"))
        await accounts.start()
        return accounts

    return build


async def test_register_then_find_and_prove(make):
    accounts = await make()
    made = await accounts.register("Alice", "a.example", "correct horse")
    assert made.jid.bare == "alice@a.example"
    assert made.id == 1
    assert accounts.peek("alice@a.example") == made
    assert await (await make()).find("alice@a.example") == made
    assert await accounts.by_id(made.id) == made
    assert await accounts.check_password("alice@a.example", "correct horse") == made
    with pytest.raises(NotAuthorized):
        await accounts.check_password("alice@a.example", "wrong horse")


async def test_an_absent_name_is_remembered_until_it_is_made(make):
    accounts = await make()
    assert accounts.peek("bob@a.example") is UNKNOWN
    assert await accounts.find("bob@a.example") is None
    assert accounts.peek("bob@a.example") is None
    await accounts.register("bob", "a.example", "password")
    assert accounts.peek("bob@a.example") is not None


async def test_the_verifiers_fit_the_password(make):
    accounts = await make()
    await accounts.register("alice", "a.example", "correct horse")
    for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
        stored = await accounts.verifier("alice@a.example", mechanism)
        assert stored.iterations == 4096
        assert stored == derive("correct horse", mechanism, stored.salt, 4096)


async def test_unknown_names_get_a_stable_verifier_of_the_same_shape(make):
    accounts = await make()
    await accounts.register("alice", "a.example", "correct horse")
    real = await accounts.verifier("alice@a.example", "SCRAM-SHA-256")
    first = await accounts.verifier("nobody@a.example", "SCRAM-SHA-256")
    again = await (await make()).verifier("nobody@a.example", "SCRAM-SHA-256")
    other = await accounts.verifier("someone@a.example", "SCRAM-SHA-256")
    assert first == again
    assert first.salt != other.salt
    for made in (first, other):
        assert (len(made.salt), made.iterations) == (len(real.salt), real.iterations)
        assert (len(made.stored_key), len(made.server_key)) == (len(real.stored_key), len(real.server_key))


async def test_a_wrong_password_costs_the_same_for_unknown_names(make):
    accounts = await make(replace(OPEN, scram_iterations=40_000))
    await accounts.register("alice", "a.example", "correct horse")

    async def once(name: str) -> float:
        begun = time.perf_counter()
        with pytest.raises(NotAuthorized):
            await accounts.check_password(name, "wrong horse")
        return time.perf_counter() - begun

    # The least of many is what it costs; anything else on the machine only adds. In turn, so that both meet the same.
    known, unknown = float("inf"), float("inf")
    for _ in range(60):
        known = min(known, await once("alice@a.example"))
        unknown = min(unknown, await once("nobody@a.example"))
        if abs(known - unknown) < max(0.3 * min(known, unknown), 0.005):
            break
    assert abs(known - unknown) < max(0.3 * min(known, unknown), 0.005)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a@b", "a/b", "x" * 300, "♚king", "straße", "\ufb01sh\u0000", "a'b", "ab\u00adc", "ᴀlice", "a\u202eb"],
)
async def test_names_that_other_servers_read_differently_are_refused(make, name):
    accounts = await make()
    with pytest.raises(NotAcceptable):
        await accounts.register(name, "a.example", "password")


@pytest.mark.parametrize("name", ["alice", "Ünal", "jürgen", "дмитрий", "田中"])
async def test_names_of_the_world_are_taken(make, name):
    made = await (await make()).register(name, "a.example", "password")
    assert made.jid.local == name.lower()


async def test_policies(make):
    with pytest.raises(RegistrationClosed):
        await (await make(replace(OPEN, registration="closed"))).register("a", "a.example", "password")
    by_invite = await make(replace(OPEN, registration="invite"))
    with pytest.raises(RegistrationClosed):
        await by_invite.register("a", "a.example", "password")
    await by_invite.register("boss", "a.example", "password", admin=True, role=Role.ADMIN)
    with pytest.raises(NotFound):
        await by_invite.register("a", "c.example", "password", admin=True)
    with pytest.raises(Forbidden):
        await by_invite.register("b", "a.example", "password", invite="guess")


async def test_one_name_once_also_when_asked_at_the_same_time(make):
    accounts = await make()
    results = await asyncio.gather(
        *(accounts.register("alice", "a.example", "password") for _ in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 4


async def test_disable_enable_delete(make):
    accounts = await make()
    ended: list[Revocation] = []
    accounts.when_revoked(ended.append)
    await accounts.register("alice", "a.example", "password")
    await accounts.disable("alice@a.example")
    with pytest.raises(NotAuthorized):
        await accounts.check_password("alice@a.example", "password")
    assert await accounts.active("alice@a.example") is None
    await accounts.enable("alice@a.example")
    await accounts.check_password("alice@a.example", "password")
    await accounts.delete("alice@a.example")
    assert [event.ending for event in ended] == [Ending.DISABLED, Ending.DELETED]
    with pytest.raises(NotAuthorized):
        await accounts.check_password("alice@a.example", "password")
    with pytest.raises(Conflict):
        await accounts.register("alice", "a.example", "password")
    with pytest.raises(NotFound):
        await accounts.enable("alice@a.example")
    found = await accounts.find("alice@a.example")
    assert found is not None
    assert found.state is AccountState.DELETED
    assert await accounts.listing() == []


async def test_a_new_password_replaces_all_verifiers(make):
    accounts = await make()
    account = await accounts.register("alice", "a.example", "old password")
    before = {m: await accounts.verifier("alice@a.example", m) for m in ("SCRAM-SHA-1", "SCRAM-SHA-256")}
    await accounts.change_password(account, "new password")
    for mechanism, old in before.items():
        assert (await accounts.verifier("alice@a.example", mechanism)).stored_key != old.stored_key
    await accounts.check_password("alice@a.example", "new password")
    with pytest.raises(NotAcceptable):
        await accounts.change_password(account, "short")


@pytest.mark.parametrize(("configured", "used"), [(1, 4096), (10**9, 1_000_000)])
async def test_iterations_stay_within_bounds(make, configured, used):
    accounts = await make(replace(OPEN, scram_iterations=configured))
    assert (await accounts.verifier("nobody@a.example", "SCRAM-SHA-256")).iterations == used


async def test_text_meant_for_the_store_changes_nothing(make):
    accounts = await make()
    await accounts.register("alice", "a.example", "password")
    for name in ("' OR 1=1 --", "%", "_lice@a.example", 'a"; DROP TABLE account; --', "\\"):
        assert await accounts.find(name) is None
    assert [found.jid.local for found in await accounts.listing("a.example")] == ["alice"]


async def test_a_removed_account_can_be_restored_until_its_grace_is_over(make):
    accounts = await make()
    ended: list[Revocation] = []
    accounts.when_revoked(ended.append)
    made = await accounts.register("alice", "a.example", "password")
    with pytest.raises(NotFound):
        await accounts.restore("alice@a.example")
    await accounts.remove(made)
    assert [event.ending for event in ended] == [Ending.DISABLED]
    with pytest.raises(NotAuthorized):
        await accounts.check_password("alice@a.example", "password")
    with pytest.raises(Conflict):
        await accounts.register("alice", "a.example", "password")
    assert await accounts.ended(10) == []
    await accounts.restore("alice@a.example")
    await accounts.check_password("alice@a.example", "password")
    accounts._clock.advance(8 * 86400)
    assert await accounts.ended(10) == []
    await accounts.remove(made)
    accounts._clock.advance(7 * 86400)
    assert [found.jid.bare for found in await accounts.ended(10)] == ["alice@a.example"]
