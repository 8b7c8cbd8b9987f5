"""Kill storms on a federated pair (R-08, R-09, R-11): acknowledged and lost 0, doubled 0, out of order 0."""

from collections.abc import Callable

import pytest

from tests.e2e.conftest import MakePair
from tests.e2e.storm import Outcome, Plan, Storm, account_names, federated
from tests.kit.prosody import ProsodyServer

SENDERS = 2


async def storm(make_pair: MakePair, plan: Plan) -> Outcome:
    outcome = await Storm(make_pair(account_names(plan.senders)), plan, say=print).run()
    print(outcome.report())
    verdict = outcome.verdict
    assert not verdict.failures(), outcome.report()
    assert len(verdict.recoveries) == len(plan.faults)
    assert verdict.acknowledged == verdict.sent > 10 * len(plan.faults), "the storm was a breeze"
    return outcome


async def test_each_side_killed_twice_one_away_one_frozen(make_pair: MakePair) -> None:
    await storm(make_pair, Plan(federated(2, down=3, frozen=2), senders=SENDERS, calm=10))


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "no-archive"])
async def test_each_side_killed_ten_times_one_away_a_minute_one_frozen(make_pair: MakePair, archive: bool) -> None:
    plan = Plan(federated(10, down=60, frozen=15), senders=SENDERS, archive=archive, calm=15, patience=150)
    await storm(make_pair, plan)


@pytest.mark.heavy
@pytest.mark.prosody
@pytest.mark.timeout(300)
async def test_the_storm_finds_losses_where_an_absent_peer_means_a_bounce(
    make_prosody_pair: Callable[..., tuple[ProsodyServer, ProsodyServer]],
) -> None:
    plan = Plan(federated(2, down=5, frozen=4), senders=SENDERS)
    outcome = await Storm(make_prosody_pair(account_names(SENDERS)), plan).run()
    print(outcome.report())
    assert outcome.verdict.bounced > 0
    assert outcome.verdict.lost_hard > 0
