"""Kill storms with PostgreSQL below (R-01), and PostgreSQL itself going down in a storm (R-17)."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import MakeNode
from tests.e2e.storm import Fault, Plan, Storm, account_names, single
from tests.kit.node import HOST, ParleyServer
from tests.kit.postgres import Cluster, PostgresMissing, cluster

SENDERS = 4

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    """A private PostgreSQL; skipped where its programs are not installed."""
    running = cluster()
    try:
        found = running.__enter__()
    except PostgresMissing as error:
        pytest.skip(str(error))
    try:
        yield found
    finally:
        running.__exit__(None, None, None)


def node_on(make_node: MakeNode, postgres: Cluster, database: str) -> ParleyServer:
    return make_node(account_names(SENDERS), extra={"storage": {"url": postgres.url(database)}})


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=[pytest.mark.heavy, pytest.mark.timeout(600)])], ids=["three", "twenty"]
)
async def test_kills(make_node: MakeNode, postgres: Cluster, kills: int) -> None:
    node = node_on(make_node, postgres, f"kills{kills}")
    outcome = await Storm([node], Plan(single(kills), senders=SENDERS), say=print).run()
    print(outcome.report())
    assert not outcome.verdict.failures(), outcome.report()
    assert len(outcome.verdict.recoveries) == kills
    assert outcome.verdict.acknowledged == outcome.verdict.sent > 10 * kills


@pytest.mark.heavy
async def test_r17_database_restarted_in_a_storm(make_node: MakeNode, postgres: Cluster) -> None:
    node = node_on(make_node, postgres, "restarted")

    async def listening() -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection(HOST, node.ports.xmpp)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    return

    async def restart() -> None:
        await listening()
        for _ in range(2):
            await asyncio.sleep(2)
            await asyncio.to_thread(postgres.stop, True)
            await asyncio.to_thread(postgres.start)

    restarting = asyncio.create_task(restart())
    outcome = await Storm([node], Plan((Fault(0, "wait", 12.0),), senders=SENDERS), say=print).run()
    await restarting
    print(outcome.report())
    assert not outcome.verdict.failures(), outcome.report()
    assert outcome.verdict.acknowledged == outcome.verdict.sent > 100
