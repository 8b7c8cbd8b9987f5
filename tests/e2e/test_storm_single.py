"""Kill storms on one server (R-01, R-02, R-03): acknowledged and lost 0, doubled 0, out of order 0."""

from collections.abc import Callable

import pytest

from tests.e2e.conftest import MakeNode
from tests.e2e.storm import Fault, Outcome, Plan, Storm, account_names, single
from tests.kit.prosody import ProsodyServer

SENDERS = 4


async def storm(make_node: MakeNode, plan: Plan) -> Outcome:
    outcome = await Storm([make_node(account_names(plan.senders))], plan, say=print).run()
    print(outcome.report())
    verdict = outcome.verdict
    assert not verdict.failures(), outcome.report()
    assert len(verdict.recoveries) == len(plan.faults)
    assert verdict.acknowledged == verdict.sent > 10 * len(plan.faults), "the storm was a breeze"
    return outcome


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "no-archive"])
async def test_three_kills(make_node: MakeNode, archive: bool) -> None:
    await storm(make_node, Plan(single(3), senders=SENDERS, archive=archive))


async def test_three_orderly_stops_say_goodbye(make_node: MakeNode) -> None:
    outcome = await storm(make_node, Plan(single(3, "term"), senders=SENDERS))
    assert max(outcome.stops) < 10
    # the senders, the online and the silent client are connected at every stop; the flapping one may be away
    assert outcome.conditions["system-shutdown"] >= 3 * (SENDERS + 2), outcome.report()


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "no-archive"])
async def test_twenty_kills(make_node: MakeNode, archive: bool) -> None:
    outcome = await storm(make_node, Plan(single(20), senders=SENDERS, archive=archive))
    assert outcome.verdict.recovery_p50 < 2, outcome.report()


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_twenty_orderly_stops(make_node: MakeNode) -> None:
    outcome = await storm(make_node, Plan(single(20, "term"), senders=SENDERS))
    assert max(outcome.stops) < 10


@pytest.mark.heavy
@pytest.mark.prosody
async def test_the_storm_finds_faults_in_a_server_that_acknowledges_from_memory(
    make_prosody: Callable[..., ProsodyServer],
) -> None:
    outcome = await Storm([make_prosody(account_names(SENDERS))], Plan(single(3), senders=SENDERS)).run()
    print(outcome.report())
    assert outcome.verdict.doubled > 0
    assert outcome.resume_failed > 0


@pytest.mark.prosody
async def test_the_storm_finds_no_faults_where_nothing_happens(make_prosody: Callable[..., ProsodyServer]) -> None:
    plan = Plan((Fault(0, "wait", 4.0),), senders=SENDERS)
    outcome = await Storm([make_prosody(account_names(SENDERS))], plan).run()
    assert not outcome.verdict.failures(), outcome.report()
    assert outcome.verdict.acknowledged == outcome.verdict.sent > 100
    assert outcome.resumed > 0
