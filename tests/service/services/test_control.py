"""The command line and a running server: one socket, real accounts."""

import asyncio
from pathlib import Path

import pytest

from config.feature_settings import InviteSettings
from config.settings import AccountSettings, StorageSettings
from homeserver.services.accounts import Accounts, Revocation
from homeserver.services.clock import SystemClock
from homeserver.services.control import SOCKET_NAME, Control, ask_server, is_serving
from homeserver.services.invites import Invites
from homeserver.services.operations import Operations
from homeserver.services.roles import Roles
from homeserver.storage.database import Database, open_database


def invites_of(database: Database, accounts: Accounts) -> Invites:
    return Invites(database, accounts, Roles(accounts), SystemClock(), InviteSettings(), "https://a.example")


@pytest.mark.parametrize("folder", ["data", "d" * 120])
async def test_a_running_server_does_what_the_operator_asks(tmp_path: Path, folder: str) -> None:
    tmp_path = tmp_path / folder
    tmp_path.mkdir()
    async with open_database(StorageSettings(path=tmp_path / "parley.db"), owner=False) as database:
        accounts = Accounts(database, AccountSettings(), SystemClock(), ("a.example",))
        await accounts.start()
        ended: list[Revocation] = []
        accounts.when_revoked(ended.append)
        control = Control(tmp_path, Operations(accounts, invites_of(database, accounts), None))
        assert not await is_serving(tmp_path)
        # What a server that was killed leaves behind.
        (tmp_path / SOCKET_NAME).touch()
        assert not await is_serving(tmp_path)
        await control.start()
        try:
            assert await is_serving(tmp_path)
            assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
            new = {"address": "ann@a.example", "password": "correct horse", "role": "member"}
            assert (await ask_server(tmp_path, "account.add", new)).error is None
            (listed,) = (await ask_server(tmp_path, "account.list", {"domain": None})).result
            assert (listed["address"], listed["state"]) == ("ann@a.example", "active")
            assert (await ask_server(tmp_path, "account.disable", {"address": "ann@a.example"})).error is None
            assert [one.account.jid.bare for one in ended] == ["ann@a.example"]
            for verb, arguments, reason in (
                ("account.disable", {"address": "bob@a.example"}, "no such account"),
                ("account.disable", {}, "account.disable needs 'address'"),
                ("account.explode", {}, "there is no operation account.explode"),
                ("queue.list", {}, "the server does not run"),
            ):
                assert reason in ((await ask_server(tmp_path, verb, arguments)).error or "")
        finally:
            await control.stop(0)
            accounts.close()
    assert not (tmp_path / SOCKET_NAME).exists()


@pytest.mark.parametrize(
    "line", [b"no json\n", b'{"verb": 1}\n', b'{"verb": "account.list"}\n', b"x" * 100_000 + b"\n", b""]
)
async def test_nonsense_does_no_harm(tmp_path: Path, line: bytes) -> None:
    async with open_database(StorageSettings(path=tmp_path / "parley.db"), owner=False) as database:
        accounts = Accounts(database, AccountSettings(), SystemClock(), ("a.example",))
        control = Control(tmp_path, Operations(accounts, invites_of(database, accounts), None))
        await control.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(line)
        writer.write_eof()
        answer = await reader.read()
        assert answer == b"" or b'"error":"not a request' in answer
        writer.close()
        assert (await ask_server(tmp_path, "account.list", {"domain": None})).result == []
        await control.stop(0)
        accounts.close()
