"""go-sendxmpp and profanity as Debian ships them: TLS that is verified, messages with each other, history."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.node import HOST, ParleyServer
from tests.kit.server import Security
from tests.kit.slix import Slix
from tests.kit.terminal import Terminal

pytestmark = pytest.mark.heavy

SENDXMPP, PROFANITY = shutil.which("go-sendxmpp"), shutil.which("profanity")
needs_sendxmpp = pytest.mark.skipif(SENDXMPP is None, reason="go-sendxmpp is not installed")
needs_profanity = pytest.mark.skipif(PROFANITY is None, reason="profanity is not installed")


def slix(node: ParleyServer, name: str, resource: str = "") -> Slix:
    return Slix(node.endpoint, next(found for found in node.accounts if found.local == name), resource)


def sendxmpp(node: ParleyServer, name: str, security: Security = "starttls") -> tuple[list[str], dict[str, str]]:
    """Command and environment; what to do is appended."""
    assert SENDXMPP is not None
    port = node.endpoint_for(security).port
    direct = ["-t"] if security == "direct" else []
    command = [SENDXMPP, *direct, "-u", f"{name}@{node.domain}", "-p", f"secret-{name}", "-j", f"{HOST}:{port}"]
    return command, {**os.environ, "SSL_CERT_FILE": str(node.authority.ca_file)}


async def posted(node: ParleyServer, name: str, to: str, text: str, security: Security = "starttls") -> None:
    """Sends one message with go-sendxmpp."""
    command, env = sendxmpp(node, name, security)
    process = await asyncio.create_subprocess_exec(
        *command, to, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    _, said = await asyncio.wait_for(process.communicate(text.encode()), 30)
    assert process.returncode == 0, said.decode()


@contextlib.asynccontextmanager
async def listening(node: ParleyServer, name: str) -> AsyncIterator[asyncio.StreamReader]:
    """`go-sendxmpp --listen`: its lines."""
    command, env = sendxmpp(node, name)
    process = await asyncio.create_subprocess_exec(*command, "--listen", stdout=asyncio.subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def heard(lines: asyncio.StreamReader, text: str) -> str:
    """The line that ends with ``text``."""
    async with asyncio.timeout(30):
        while True:
            line = (await lines.readline()).decode().rstrip()
            if line.endswith(text):
                return line


@contextlib.asynccontextmanager
async def profanity(node: ParleyServer, name: str, home: Path, tls: str = "force") -> AsyncIterator[Terminal]:
    """profanity with an empty configuration, logged in; ``tls``: its word for STARTTLS or for TLS from the start."""
    assert PROFANITY is not None
    home.mkdir()
    places = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_DATA_HOME": home / "data"}
    env = {key: str(path) for key, path in places.items()} | {"SSL_CERT_FILE": str(node.authority.ca_file)}
    port = node.endpoint_for("direct" if tls == "legacy" else "starttls").port
    async with Terminal([PROFANITY, "-l", "DEBUG", "-f", str(home / "log")], env) as screen:
        await screen.shows("/help")
        for command in ("/mam on", "/carbons on", "/wintitle goodbye off"):
            screen.type(command)
        screen.type(f"/connect {name}@{node.domain} server {HOST} port {port} tls {tls}")
        await screen.shows("password:")
        screen.type(f"secret-{name}")
        await screen.shows("successfully")
        screen.type("/disco info")  # it must know what the server can do before it asks for history
        await screen.shows("urn:xmpp:mam:2")
        yield screen


@needs_sendxmpp
@pytest.mark.parametrize("security", ["starttls", "direct"])
async def test_sendxmpp_to_slixmpp_over_two_domains(one: ParleyServer, two: ParleyServer, security: Security) -> None:
    async with slix(two, "bob") as bob:
        await posted(one, "ann", "bob@two.example", f"from go by {security}", security)
        await bob.until(lambda: f"from go by {security}" in bob.bodies)
        assert f"from go by {security}" in await bob.texts("ann@one.example")


@needs_sendxmpp
async def test_sendxmpp_listens(one: ParleyServer, two: ParleyServer) -> None:
    async with slix(two, "cat") as cat, listening(one, "dan") as lines:
        cat.say("dan@one.example", "waits or not")
        assert "cat@two.example" in await heard(lines, "waits or not")
        await posted(two, "eve", "dan@one.example", "from go to go")
        assert "eve@two.example" in await heard(lines, "from go to go")


@needs_sendxmpp
async def test_sendxmpp_does_not_trust_an_unknown_authority(one: ParleyServer, tmp_path: Path) -> None:
    command, env = sendxmpp(one, "ann")
    (tmp_path / "none.pem").touch()
    process = await asyncio.create_subprocess_exec(
        *command,
        "bob@two.example",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**env, "SSL_CERT_FILE": str(tmp_path / "none.pem")},
    )
    _, said = await asyncio.wait_for(process.communicate(b"no"), 30)
    assert process.returncode != 0
    assert b"certificate" in said


@needs_profanity
@pytest.mark.parametrize("tls", ["force", "legacy"])
async def test_profanity_talks_and_reads_history(
    one: ParleyServer, two: ParleyServer, tmp_path: Path, tls: str
) -> None:
    own, peer = {"force": ("fay", "gus"), "legacy": ("hal", "ida")}[tls]
    async with slix(two, peer) as other, slix(one, own, "second") as second:
        async with profanity(one, own, tmp_path / "first", tls) as screen:
            screen.type(f"/msg {peer}@two.example marble-{tls}")
            await other.said(f"marble-{tls}")
            other.say(f"{own}@one.example", f"granite-{tls}")
            await screen.shows(f"granite-{tls}")
            await second.said(f"granite-{tls}")
            await second.until(lambda: second.copies)
            assert [(way, str(copy["body"])) for way, copy in second.copies] == [("sent", f"marble-{tls}")]
            screen.forget()
            second.say(f"{peer}@two.example", f"basalt-{tls}")
            await screen.shows(f"basalt-{tls}")  # a carbon
        async with profanity(one, own, tmp_path / "again", tls) as screen:
            screen.type(f"/msg {peer}@two.example")
            for word in ("marble", "granite", "basalt"):
                await screen.shows(f"{word}-{tls}")
        assert await second.texts(f"{peer}@two.example") == [
            f"{word}-{tls}" for word in ("marble", "granite", "basalt")
        ]


@needs_profanity
@needs_sendxmpp
async def test_profanity_and_sendxmpp(one: ParleyServer, two: ParleyServer, tmp_path: Path) -> None:
    async with profanity(one, "jim", tmp_path / "home") as screen, listening(two, "kim") as lines:
        screen.type("/msg kim@two.example from-profanity")
        assert "jim@one.example" in await heard(lines, "from-profanity")
        screen.forget()
        await posted(two, "kim", "jim@one.example", "from-go-to-profanity")
        await screen.shows("from-go-to-profanity")


@needs_profanity
async def test_profanity_between_two_of_them(one: ParleyServer, two: ParleyServer, tmp_path: Path) -> None:
    async with (
        profanity(one, "leo", tmp_path / "leo") as leo,
        profanity(two, "mia", tmp_path / "mia") as mia,
    ):
        leo.type("/msg mia@two.example quartz-one")
        mia.type("/msg leo@one.example")
        await mia.shows("quartz-one")
        leo.forget()
        mia.type("feldspar-two")
        await leo.shows("feldspar-two")
