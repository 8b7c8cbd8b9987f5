"""Make accounts of a Parley configuration in one go, which the command line does one at a time.

    python -m tests.benchmarks.accounts CONFIG < lines

Each line is a bare JID, the password, and the bare JIDs of its contacts, with spaces between. Subscriptions go both ways.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, insert

from config.load import load_settings
from homeserver.cli.accounts import open_accounts
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts
from homeserver.storage.database import open_database
from homeserver.storage.schema import contact, roster_version

# Passwords are derived in threads: a few accounts at once keep every core busy.
_AT_ONCE = 16


async def add(configuration: Path, lines: list[str]) -> None:
    """Register every account as the operator would, then store its contacts. Raises what `Accounts.register` raises."""
    settings = load_settings(configuration)
    rosters: dict[int, Sequence[str]] = {}
    async with open_accounts(settings) as accounts:
        for start in range(0, len(lines), _AT_ONCE):
            made = await asyncio.gather(*(_register(accounts, line) for line in lines[start : start + _AT_ONCE]))
            rosters.update((number, contacts) for number, contacts in made if contacts)
    async with open_database(settings.storage, owner=False) as database:
        await database.write(_store, rosters)


async def _register(accounts: Accounts, line: str) -> tuple[int, Sequence[str]]:
    address, password, *contacts = line.split(" ")
    jid = JID.parse(address)
    account = await accounts.register(jid.local, jid.domain, password, admin=True)
    return account.id, contacts


def _store(conn: Connection, rosters: dict[int, Sequence[str]]) -> None:
    for account, contacts in rosters.items():
        conn.execute(insert(roster_version).values(account=account, version=1, floor=1))
        conn.execute(
            insert(contact),
            [
                {
                    "account": account,
                    "jid": bare,
                    "name": f"Contact {number}",
                    "state": int(State.BOTH),
                    "listed": True,
                    "version": 1,
                }
                for number, bare in enumerate(contacts)
            ],
        )


if __name__ == "__main__":
    asyncio.run(add(Path(sys.argv[1]), sys.stdin.read().splitlines()))
