"""What is left of a removed account: everything for a while, then its name alone."""

from config.settings import AccountSettings
from homeserver.domain.accounts import AccountState
from homeserver.domain.ids import IdSource
from homeserver.services.departures import Departures
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.streams import ResumableStream, Streams
from tests.kit.world import World


def departures(server: World) -> tuple[Departures, Mailboxes, Streams]:
    ids = IdSource(lambda: int(server.clock.now() * 1_000_000), server.database.commit.last_id)
    mailboxes = Mailboxes(server.database, ids, server.clock)
    streams = Streams(server.database, server.clock)
    return Departures(server.accounts, mailboxes, streams), mailboxes, streams


async def test_an_account_goes_when_its_grace_is_over(server: World) -> None:
    server.accounts.reload(AccountSettings(registration="open", scram_iterations=4096, deletion_grace=100.0))
    await server.befriend("bill", "bob")
    bill, bob = await server.account("bill"), await server.account("bob")
    leaving, _, streams = departures(server)
    await streams.add(ResumableStream("s", bill.id, "x", 0, 0, 0, b"", server.clock.now(), server.clock.now() + 900))
    await server.accounts.remove(bill)
    await leaving.purge()
    await server.settle()
    assert [found.jid for found in (await server.contacts.roster(bill)).listed()] == [bob.jid]
    assert await streams.find("s") is not None
    server.clock.advance(100)
    await leaving.purge()
    await server.settle()
    found = await server.accounts.find("bill@a.example")
    assert found is not None
    assert found.state is AccountState.DELETED
    assert await streams.find("s") is None
    assert await server.accounts.ended(10) == []
    server.clock.advance(100)
    await leaving.purge()  # there is nothing left to do


async def test_what_a_deleted_account_left_is_purged_by_a_later_process(server: World) -> None:
    bill = await server.account("bill")
    await server.accounts.delete(bill.jid.bare)
    assert [found.id for found in await server.accounts.ended(10)] == [bill.id]
    leaving, _, _ = departures(server)
    await leaving.purge()
    assert await server.accounts.ended(10) == []
