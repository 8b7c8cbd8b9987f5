"""A server's store that is killed at one step of a commit: run as a program by `test_faults.py`.

Arguments: the SQLite path or "-", the PostgreSQL URL or "-", the step, and at which time it comes the process ends.
Prints the id of every acknowledged message on a line of its own.
"""

import asyncio
import os
import sys
from pathlib import Path

from homeserver.storage.database import open_database
from homeserver.storage.log_index import LogRow
from tests.storage.conftest import Section


async def main(path: str, url: str, step: str, times: int) -> None:
    left = times

    def crash(point: str) -> None:
        nonlocal left
        if point == step:
            left -= 1
            if left == 0:
                os._exit(9)

    section = Section(Path(path), None if url == "-" else url)
    async with open_database(section, crash_point=crash) as database:
        commit = database.commit
        for number in range(1, 2001):
            id_ = commit.last_id + 1

            def acknowledge(error: BaseException | None, id_: int = id_) -> None:
                if error is None:
                    os.write(1, f"{id_}\n".encode())

            commit.append(LogRow(id_, id_, 1, 2, None, 1, 3, None, None, b"<message/>"), acknowledge)
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 50 == 0:
                done = asyncio.Event()
                commit.follow(lambda _, done=done: done.set())
                await done.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
