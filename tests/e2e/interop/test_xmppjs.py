"""@xmpp/client of npm: SASL2 with Bind 2 and login tokens over STARTTLS, TLS from the start, and WebSocket; resumption."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.node import HOST, ParleyServer
from tests.kit.npm import installed
from tests.kit.npm import node as node_path
from tests.kit.slix import Slix

pytestmark = pytest.mark.heavy

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(HERE / "xmppjs.mjs", HERE / "npm" / "xmppjs", tmp_path_factory.mktemp("npm"))


class Device:
    """The process of one device."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[dict[str, Any]] = []

    @property
    def texts(self) -> list[str]:
        """The messages that came."""
        return [found["text"] for found in self.events if found["event"] == "message"]

    @property
    def jid(self) -> str:
        """What it takes for its own address."""
        return [str(found["jid"]) for found in self.events if "jid" in found][-1]

    def order(self, *words: str) -> None:
        """Tell it what to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")

    async def tells(self, event: str, **wanted: Any) -> dict[str, Any]:
        """The next event of that name with these values."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                found: dict[str, Any] = json.loads(line)
                self.events.append(found)
                if found["event"] == event and wanted.items() <= found.items():
                    return found
        raise AssertionError(f"no {event}: {self.events}")


@contextlib.asynccontextmanager
async def device(program: Path, node: ParleyServer, name: str, kind: str) -> AsyncIterator[Device]:
    services = {
        "starttls": f"xmpp://{HOST}:{node.ports.required}",
        "direct": f"xmpps://{HOST}:{node.ports.xmpps}",
        "websocket": f"wss://{HOST}:{node.ports.https}/xmpp-websocket",
    }
    process = await asyncio.create_subprocess_exec(
        node_path(), program, services[kind], node.domain, name, f"secret-{name}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(node.authority.ca_file)},
    )  # fmt: skip
    try:
        yield Device(process)
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(("kind", "name"), [("starttls", "ann"), ("direct", "bob"), ("websocket", "cat")])
async def test_login_messages_and_resumption(
    program: Path, one: ParleyServer, two: ParleyServer, kind: str, name: str
) -> None:
    account = next(found for found in two.accounts if found.local == name)
    async with Slix(two.endpoint, account) as peer, device(program, one, name, kind) as made:
        await made.tells("authenticate")
        await made.tells("success", xmlns=ns.SASL2, inline=True)
        online = await made.tells("online")
        assert online["jid"].startswith(f"{name}@one.example/")
        made.order("send", f"{name}@two.example", "over", kind)
        await peer.said(f"over {kind}")
        await made.tells("ack", name="message")
        peer.say(f"{name}@one.example", f"back to {kind}")
        assert (await made.tells("message"))["text"] == f"back to {kind}"
        made.order("drop")
        await peer.settled()
        peer.say(f"{name}@one.example", "while it was gone")
        await made.tells("authenticate", mechanism="HT-SHA-256-NONE")  # XEP-0484
        await made.tells("resumed")  # told after what came with it
        assert made.jid == online["jid"]
        if "while it was gone" not in made.texts:
            await made.tells("message")
        made.order("send", f"{name}@two.example", "after", kind)
        await peer.said(f"over {kind}", f"after {kind}")
        await made.tells("ack", id=f"after-{kind}")
        assert made.texts == [f"back to {kind}", "while it was gone"]
