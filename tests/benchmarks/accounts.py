"""Make accounts of a Parley configuration in one go, which the command line does one at a time.

    python -m tests.benchmarks.accounts CONFIG < lines

Each line is a bare JID, a space and the password.
"""

import asyncio
import sys
from pathlib import Path

from config.load import load_settings
from homeserver.cli.accounts import open_accounts
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts

# Passwords are derived in threads: a few accounts at once keep every core busy.
_AT_ONCE = 16


async def add(configuration: Path, lines: list[str]) -> None:
    """Register every account as the operator would. Raises what `Accounts.register` raises."""
    async with open_accounts(load_settings(configuration)) as accounts:
        for start in range(0, len(lines), _AT_ONCE):
            await asyncio.gather(*(_register(accounts, line) for line in lines[start : start + _AT_ONCE]))


async def _register(accounts: Accounts, line: str) -> None:
    address, _, password = line.partition(" ")
    jid = JID.parse(address)
    await accounts.register(jid.local, jid.domain, password, admin=True)


if __name__ == "__main__":
    asyncio.run(add(Path(sys.argv[1]), sys.stdin.read().splitlines()))
