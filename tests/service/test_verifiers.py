"""Verifiers that accounts lack: found at the start, made with the help of clients, never replaced by them (XEP-0480)."""

from config.settings import AccountSettings
from homeserver.domain.accounts import Role
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts
from homeserver.services.passwords import derive
from homeserver.services.verifiers import Verifiers
from homeserver.storage import accounts as storage
from tests.kit.clocks import FakeClock
from tests.kit.stores import PlainDatabase

SETTINGS = AccountSettings(registration="open", scram_iterations=4096)
OLD, NEW = "SCRAM-SHA-1", "SCRAM-SHA-512"


async def test_what_is_missing_is_known_and_can_be_given_once() -> None:
    database = PlainDatabase()
    accounts = Accounts(database, SETTINGS, FakeClock(), ("a.example",))  # type: ignore[arg-type]
    await accounts.start()
    await accounts.register("new", "a.example", "password")
    verifiers = Verifiers(database, SETTINGS)  # type: ignore[arg-type]
    await verifiers.start()
    assert verifiers.lacking == ()
    old = storage.NewAccount(
        JID("old", "a.example"), Role.MEMBER, [derive("password", OLD, b"s" * 16, 4096)], 0.0, None
    )
    await database.write(storage.create, old)
    guest = storage.NewAccount(JID("guest", "a.example"), Role.GUEST, [], 0.0, None)
    await database.write(storage.create, guest)  # has no password at all
    await verifiers.start()
    assert verifiers.lacking == ("SHA-256", "SHA-512")
    assert await verifiers.missing("new@a.example", ("SHA-256", "SHA-512")) == []
    [(name, salt, rounds)] = await verifiers.missing("old@a.example", ("SHA-512",))
    assert (name, rounds) == ("SHA-512", 4096)
    made = derive("password", NEW, salt, rounds)
    await verifiers.add("old@a.example", made)
    assert await accounts.verifier("old@a.example", NEW) == made
    await verifiers.add("old@a.example", derive("planted", NEW, b"x" * 16, 4096))
    assert await accounts.verifier("old@a.example", NEW) == made
    await verifiers.start()
    assert verifiers.lacking == ("SHA-256",)
