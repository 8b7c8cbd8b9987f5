"""A JSON server of its own per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.json_server import JsonServer, json_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[JsonServer]:
    async with json_server(tmp_path / "data" / "parley.db") as found:
        yield found
