"""Real servers for end-to-end tests."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.authority import Authority
from tests.kit.node import ParleyServer, parley_pair
from tests.kit.prosody import PROGRAM, ProsodyServer, prosody_pair
from tests.kit.server import Server

MakeNode = Callable[..., ParleyServer]
MakePair = Callable[..., tuple[ParleyServer, ParleyServer]]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One certificate authority for the run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Servers put here are killed at the end of the test."""
    made: list[Server] = []
    yield made
    for server in made:
        asyncio.run(server.kill9())


@pytest.fixture
def make_node(tmp_path: Path, authority: Authority, servers: list[Server]) -> MakeNode:
    """Makes nodes that are not started: ``make_node(names, **options of ParleyServer)``."""

    def make(names: list[str], **options: Any) -> ParleyServer:
        node = ParleyServer(tmp_path / f"node{len(servers)}", authority, names, **options)
        servers.append(node)
        return node

    return make


@pytest.fixture
def make_pair(tmp_path: Path, authority: Authority, servers: list[Server]) -> MakePair:
    """Makes two nodes that federate, not started: ``make_pair(names, **options of parley_pair)``."""

    def make(names: list[str], **options: Any) -> tuple[ParleyServer, ParleyServer]:
        nodes = parley_pair(tmp_path, authority, names, **options)
        servers.extend(nodes)
        return nodes

    return make


@pytest.fixture
def make_prosody(tmp_path: Path, authority: Authority, servers: list[Server]) -> Callable[..., ProsodyServer]:
    """Makes a Prosody that is not started; the test is skipped where it is not installed."""

    def make(names: list[str], **options: Any) -> ProsodyServer:
        if PROGRAM is None:
            pytest.skip("prosody is not installed")
        server = ProsodyServer(tmp_path / f"prosody{len(servers)}", authority, names, **options)
        servers.append(server)
        return server

    return make


@pytest.fixture
def make_prosody_pair(
    tmp_path: Path, authority: Authority, servers: list[Server]
) -> Callable[..., tuple[ProsodyServer, ProsodyServer]]:
    """Makes two Prosodies that federate, not started."""

    def make(names: list[str], **options: Any) -> tuple[ProsodyServer, ProsodyServer]:
        if PROGRAM is None:
            pytest.skip("prosody is not installed")
        nodes = prosody_pair(tmp_path, authority, names, **options)
        servers.extend(nodes)
        return nodes

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; skipped where it cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ParleyServer]:
    """One running node for all tests of a module, with the accounts ann, bob and cat."""
    made = ParleyServer(tmp_path_factory.mktemp("node"), authority, ["ann", "bob", "cat"])
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.kill9())
