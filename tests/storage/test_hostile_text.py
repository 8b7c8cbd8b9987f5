"""Text that means something to a database is text, in every column that takes it from outside, on both engines: S-160."""

import asyncio
import random
from typing import Any

import pytest

from homeserver.domain.accounts import Account, AccountState, Device, Role
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import Kind, Message, PageRequest, Stored, Treatment
from homeserver.domain.rosters import Contact
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID
from homeserver.services.mailboxes import Mailboxes
from homeserver.storage import accounts, client_messages, contacts, devices, outbox, peers, resumption
from homeserver.storage.client_messages import Known
from homeserver.storage.database import Database
from homeserver.storage.schema import metadata
from tests.kit.clocks import FakeClock

NASTY = (
    "'", '"', "''", "\\", "\\'", "%", "_", "%%", "u_@example.org", "' OR 1=1 --", '" OR ""="', "'); DROP TABLE log; --",
    "/* */", "`", ":owner", "?", "$1", "{0}", "%(id)s", "\u2019", "\ufeff", "\U0001f600'", "x" * 3000 + "'",
)  # fmt: skip
ALPHABET = "'\"\\%_;-:?$(){}`* aA\u00e4\u202e\U0001f600"
_random = random.Random(160)
TEXTS = (*NASTY, *("".join(_random.choices(ALPHABET, k=_random.randint(1, 30))) for _ in range(20)))

ONE = Account(1, JID.parse("u1@example.org"), AccountState.ACTIVE, Role.MEMBER)
TWO = Account(2, JID.parse("u2@example.org"), AccountState.ACTIVE, Role.MEMBER)


def counted(connection: Any) -> dict[str, int]:
    """Rows of every table."""
    return {name: connection.exec_driver_sql(f'SELECT COUNT(*) FROM "{name}"').scalar_one() for name in metadata.tables}


async def test_a_search_finds_nothing_and_changes_nothing(database: Database) -> None:
    before = await database.read(counted)
    for text in TEXTS:
        assert await database.read(accounts.by_jid, text) is None
        assert await database.read(accounts.by_jid, f"{text}@example.org") is None
        assert await database.read(accounts.listing, text, "", 100) == []
        assert all(found.jid.bare > text for found in await database.read(accounts.listing, None, text, 100))
        assert await database.read(accounts.verifier, text, text) is None
        assert await database.read(accounts.secrets_of, text) == []
        assert await database.read(devices.find, text) is None
        assert await database.read(devices.position, text) is None
        assert await database.read(client_messages.find, 1, text, 0.0) is None
        assert await database.read(resumption.find, text, 0.0) is None
        assert (await database.read(peers.reception, text, text)).highest == 0
        assert await database.read(peers.known_ids, text, text, [text]) == set()
        assert await database.read(peers.document, text) is None
        await database.write(devices.drop, (text,))
        await database.write(devices.set_position, text, 5, 0.0)
        await database.write(accounts.drop_secret, text)
    assert await database.read(counted) == before


async def test_devices_and_idempotency_keys(database: Database) -> None:
    for number, text in enumerate(TEXTS):
        made = Device(f"{text}-{number}", 1, text, text, 1.0, float(number))
        await database.write(devices.upsert, made, number.to_bytes(32, "big"), 9e9, 500)
        assert await database.read(devices.find, made.id) == made
        known = Known(b"digest", number, 1)
        await database.write(client_messages.keep, 1, text, known, 9e9)
        assert await database.read(client_messages.find, 1, text, 0.0) == known
        assert await database.read(client_messages.find, 2, text, 0.0) is None
    assert len(await database.read(devices.listing, 1)) == len(TEXTS)
    assert await database.read(devices.listing, 2) == []


async def test_contacts(database: Database) -> None:
    for number, text in enumerate(TEXTS):
        jid = JID.parse(f"c{number}@far.example")

        def change(_before: Contact, jid: JID = jid, text: str = text) -> Contact:
            return Contact(jid, text, (text,), State.NONE_OUT, listed=True)

        await database.write(
            contacts.change, contacts.Wanted(1, jid, change, 1_763_600_000_000_000, text.encode(), 500, 500)
        )
    listed = {found.jid.local: found for found in (await database.read(contacts.load, 1)).listed()}
    assert [(listed[f"c{n}"].name, listed[f"c{n}"].groups) for n in range(len(TEXTS))] == [(t, (t,)) for t in TEXTS]
    assert (await database.read(contacts.load, 2)).listed() == []


async def test_peers(database: Database) -> None:
    for number, text in enumerate(TEXTS):
        await database.write(peers.save_base, text, text)
        await database.write(outbox.insert_destination, number + 1, text, text, text)
        document = peers.PeerDocument(text, 3, (text,), text, (peers.PeerKey(text, b"k", 0.0, None),))
        await database.write(peers.save_document, document, 0.0)
        assert await database.read(peers.document, text) == document
    assert await database.read(peers.bases) == {text: text for text in TEXTS}
    assert [row.domain for row in sorted(await database.read(outbox.destinations), key=lambda row: row.id)] == [*TEXTS]


async def test_messages_and_pages(database: Database) -> None:
    clock = FakeClock()
    mailboxes = Mailboxes(database, IdSource(clock.microseconds, database.commit.last_id), clock)
    treatment = Treatment.ARCHIVE | Treatment.KEEP | Treatment.DURABLE
    stored: list[Stored] = []
    for text in TEXTS:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        remote = JID(text, "far.example")
        message = Message(remote, TWO.jid, Kind.CHAT, treatment, text, text, f"<message>{text}</message>".encode())
        mailboxes.append(message, None, TWO, lambda made, error, done=done: done.set_result(made or error))
        stored.append(await done)
    for _ in range(2):
        for text, one in zip(TEXTS, stored, strict=True):
            page = await mailboxes.page(TWO, PageRequest(100, peer=f"{text}@far.example"))
            assert [(entry.id, entry.stanza_id, entry.payload) for entry in page.entries] == [
                (one.id, text, one.message.payload)
            ]
            assert await mailboxes.count(TWO, PageRequest(1, peer=f"{text}@far.example")) == 1
            assert (await mailboxes.page(ONE, PageRequest(100, peer=f"{text}@far.example"))).entries == []
        assert len(await mailboxes.conversations(TWO, None, 100)) == len(set(TEXTS))
        await mailboxes.load()


@pytest.mark.parametrize("wildcard", ["%", "_", "u_@example.org", "u%"])
async def test_wildcards_match_themselves_only(database: Database, wildcard: str) -> None:
    assert await database.read(accounts.by_jid, wildcard) is None
    assert await database.read(accounts.listing, wildcard, "", 100) == []
