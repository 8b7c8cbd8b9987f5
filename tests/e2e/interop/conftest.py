"""Two running domains for the clients that others wrote."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.kit.authority import Authority
from tests.kit.node import ParleyServer, parley_pair

NAMES = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jim", "kim", "leo", "mia", "ned", "oda", "pia")


@pytest.fixture(scope="module")
def domains(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[ParleyServer, ParleyServer]]:
    """Two servers that federate, for all tests of a module; each test uses accounts of its own."""
    one, two = parley_pair(tmp_path_factory.mktemp("pair"), authority, NAMES)

    async def start() -> None:
        await asyncio.gather(one.start(), two.start())

    try:
        asyncio.run(start())
        yield one, two
    finally:
        for node in (one, two):
            asyncio.run(node.kill9())


@pytest.fixture(scope="module")
def one(domains: tuple[ParleyServer, ParleyServer]) -> ParleyServer:
    """one.example"""
    return domains[0]


@pytest.fixture(scope="module")
def two(domains: tuple[ParleyServer, ParleyServer]) -> ParleyServer:
    """two.example"""
    return domains[1]
