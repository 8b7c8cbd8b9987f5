"""What accounts chose and what they reported, on both stores."""

from homeserver.domain.ids import IdSource
from homeserver.domain.messages import PageRequest, Treatment
from homeserver.domain.privacy import ArchivePreferences, Archiving, Facts, SeenBy, Strangers
from homeserver.protocol.jid import JID
from homeserver.services.mailboxes import Mailboxes
from homeserver.storage import privacy, reports
from homeserver.storage.database import Database
from homeserver.storage.reports import Evidence, Report
from tests.storage.conftest import Open, add_accounts
from tests.storage.test_mailbox_service import ONE, TWO, Clock, append, message, service

OWNER = JID("u1", "example.org")


async def test_choices_are_kept(database: Database) -> None:
    assert await database.read(privacy.accounts) == set()
    assert await database.read(privacy.load, 1, OWNER) == Facts(OWNER)
    await database.write(privacy.block, 1, ["a@x.example", "b@x.example"])
    await database.write(privacy.block, 1, ["a@x.example", "y.example"])
    await database.write(privacy.unblock, 1, ["b@x.example", "never@x.example"])
    await database.write(privacy.set_strangers, 1, Strangers.MARK)
    await database.write(privacy.set_last_seen, 1, SeenBy.NOBODY)
    wanted = ArchivePreferences(Archiving.ROSTER, frozenset(["a@x.example"]), frozenset(["c@x.example", "a@x.example"]))
    for _ in range(2):
        await database.write(privacy.set_archive, 1, wanted)
    found = await database.read(privacy.load, 1, OWNER)
    assert found.blocked == {"a@x.example", "y.example"}
    assert found.own_strangers is Strangers.MARK
    assert found.last_seen is SeenBy.NOBODY
    assert found.archive == ArchivePreferences(Archiving.ROSTER, frozenset(["a@x.example"]), frozenset(["c@x.example"]))
    await database.write(privacy.block, 2, ["a@x.example"])
    await database.write(privacy.set_strangers, 3, None)
    assert (await database.read(privacy.load, 3, OWNER)).last_seen is SeenBy.CONTACTS
    assert await database.read(privacy.accounts) == {1, 2, 3}
    await database.write(privacy.unblock, 2, None)
    await database.write(privacy.purge, 1)
    await database.write(privacy.purge, 3)
    assert await database.read(privacy.accounts) == set()


async def test_reports_are_kept_and_deleted(database: Database) -> None:
    made = [
        Report(0, float(at), "u1@example.org", "eve@x.example", "spam", "no'; --", third_party=True) for at in (1, 2)
    ]
    first = await database.write(reports.add, made[0], [Evidence(7, 5, b"<message/>"), Evidence(3, 4, b"<message/>")])
    second = await database.write(reports.add, made[1], [])
    assert [(one.id, count) for one, count in await database.read(reports.listing, True, 10)] == [
        (first, 2),
        (second, 0),
    ]
    assert [one.id for one, _ in await database.read(reports.listing, True, 1)] == [second]
    found = await database.read(reports.find, first)
    assert found is not None
    assert (found[0].words, found[0].origin, found[0].third_party) == ("no'; --", False, True)
    assert [one.id for one in found[1]] == [3, 7]
    assert await database.write(reports.resolve, first, 9.0, "done")
    assert not await database.write(reports.resolve, first, 9.0, "again")
    assert [one.id for one, _ in await database.read(reports.listing, False, 10)] == [second]
    assert await database.write(reports.purge_before, 2.0) == 1
    assert await database.read(reports.find, first) is None


async def test_who_was_written_to(opening: Open) -> None:
    async with opening() as database:
        await database.write(add_accounts)
        mailboxes = service(database, Clock())
        assert not await mailboxes.has_written(ONE, "u2@example.org")
        await append(mailboxes, message(1))
        assert await mailboxes.has_written(ONE, "u2@example.org")
        assert not await mailboxes.has_written(TWO, "u1@example.org")
        await append(mailboxes, message(2), ONE, None)
    async with opening() as database:
        again = Mailboxes(database, IdSource(Clock().microseconds, database.commit.last_id), Clock())
        assert await again.has_written(ONE, "u2@example.org")
        assert not await again.has_written(TWO, "u1@example.org")


async def test_a_message_without_its_senders_entry(database: Database) -> None:
    mailboxes = service(database, Clock())
    sent = message(1, "origin")
    stored = mailboxes.append(sent, None, TWO, None, sent)
    await mailboxes.durable()
    assert mailboxes.resent(sent, lambda *_: None)
    assert [entry.id for entry in (await mailboxes.page(TWO, PageRequest(5))).entries] == [stored.id]
    assert (await mailboxes.page(ONE, PageRequest(5))).entries == []
    page = await mailboxes.page(TWO, PageRequest(5, peer="u1@example.org"))
    assert [entry.peer for entry in page.entries] == ["u1@example.org"]
    await append(mailboxes, message(2))
    # The peer is one conversation, whether it owns the message or not.
    assert [found.peer for found in await mailboxes.conversations(TWO, None, 5)] == ["u1@example.org"]
    page = await mailboxes.page(TWO, PageRequest(5, peer="u1@example.org"))
    assert len(page.entries) == 2
    waits = message(3, treatment=Treatment.KEEP)
    mailboxes.append(waits, None, TWO)
    await mailboxes.durable()
    assert len(await mailboxes.pending(TWO, 9)) == 3
    assert len((await mailboxes.page(TWO, PageRequest(5))).entries) == 2
