"""One server over a store of its own per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.world import World, world


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "data" / "parley.db") as found:
        yield found
