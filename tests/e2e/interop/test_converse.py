"""converse.js in headless Chromium, over WebSocket and over BOSH: login, contacts, messages, history after a reload,
upload, avatar, OMEMO."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web

from tests.kit.node import HOST, ParleyServer
from tests.kit.slix import Slix

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

NPM, NODE, CHROMIUM = shutil.which("npm"), shutil.which("node"), shutil.which("chromium")
PACKAGES = ("converse.js@14.0.0", "playwright-core@1")
DRIVER = Path(__file__).with_name("converse.mjs")
PATIENCE = 60.0

PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="dist/converse.min.css"><body>
<script type="module">
const told = new URLSearchParams(location.search);
window.seen = [];
window.until = async (test) => { for (;;) { const found = await test(); if (found) return found; await new Promise((go) => setTimeout(go, 50)); } };
await import("./dist/converse.min.js");
converse.plugins.add("probe", { initialize() {
  window.api = this._converse.api; window._converse = this._converse;
  for (const event of ["connected", "reconnected", "rosterContactsFetched", "OMEMOInitialized", "disconnected"])
    api.listen.on(event, () => seen.push(event));
} });
await converse.initialize({
  authentication: "login", auto_login: true, jid: told.get("jid"), password: told.get("password"),
  [told.get("kind") === "bosh" ? "bosh_service_url" : "websocket_url"]: told.get("url"),
  discover_connection_methods: false, view_mode: "fullscreen", assets_path: "/dist/", whitelisted_plugins: ["probe"],
  enable_smacks: true, loglevel: "warn", i18n: "en", play_sounds: false, auto_reconnect: true,
  show_desktop_notifications: false, omemo_default: false, persistent_store: "sessionStorage", clear_cache_on_logout: false,
});
</script>"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver beside what it imports, outside the source tree."""
    if NPM is None or NODE is None:
        pytest.skip("npm or node is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *PACKAGES]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=200)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install converse.js")
    return Path(shutil.copy(DRIVER, folder))


@pytest.fixture
async def site(program: Path) -> AsyncIterator[str]:
    """Where the page is."""
    app = web.Application()

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app.router.add_get("/", page)
    dist = program.parent / "node_modules" / "converse.js" / "dist"
    app.router.add_static("/dist", dist)
    app.router.add_static("/", dist)  # where its OMEMO library looks for its WebAssembly
    runner = web.AppRunner(app)
    await runner.setup()
    listener = web.TCPSite(runner, HOST, 0)
    await listener.start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


class Browser:
    """One profile with the page open."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    async def answer(self) -> Any:
        """The next answer of the driver."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the browser has ended"
        found = json.loads(line)
        assert "error" not in found, found["error"]
        return found.get("value")

    async def run(self, code: str) -> Any:
        """Evaluate an expression in the page, promises awaited."""
        assert self._process.stdin is not None
        self._number += 1
        self._process.stdin.write(json.dumps({"id": self._number, "code": code}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            return await self.answer()

    async def until(self, code: str) -> Any:
        """Evaluate an expression until it is true; its value."""
        return await self.run(f"until(async () => {code})")

    async def seen(self, event: str) -> None:
        """Wait until converse.js told of an event."""
        await self.until(f"window.seen && seen.includes({event!r})")

    async def say(self, jid: str, text: str) -> None:
        """Write to somebody as a user does."""
        await self.run(f"api.chats.open({jid!r}, {{}}, true).then((chat) => chat.sendMessage({{ body: {text!r} }})).then(() => null)")

    async def shows(self, jid: str, text: str) -> None:
        """Wait until a text is in the chat with somebody, decrypted where it was encrypted."""
        await self.until(
            f"(await api.chats.get({jid!r}))?.messages.models.some("
            f"(found) => (found.get('plaintext') ?? found.get('message') ?? found.get('body')) === {text!r})"
        )


@contextlib.asynccontextmanager
async def browser(
    program: Path, site: str, node: ParleyServer, name: str, kind: str, folder: Path
) -> AsyncIterator[Browser]:
    assert NODE is not None
    assert CHROMIUM is not None
    url = node.base_url + "/http-bind" if kind == "bosh" else f"wss://{HOST}:{node.ports.https}/xmpp-websocket"
    told = {"jid": f"{name}@{node.domain}", "password": f"secret-{name}", "kind": kind, "url": url}
    with (folder / f"{name}-{kind}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            NODE, program, folder / f"profile-{name}-{kind}", f"{site}?{urlencode(told)}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 24,
            env={**os.environ, "CHROMIUM": CHROMIUM},
        )  # fmt: skip
        made = Browser(process)
        try:
            async with asyncio.timeout(PATIENCE):
                await made.answer()
            await made.seen("connected")
            yield made
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(("kind", "name"), [("websocket", "ann"), ("bosh", "bob")])
async def test_login_contacts_messages_and_history(
    program: Path, site: str, one: ParleyServer, two: ParleyServer, tmp_path: Path, kind: str, name: str
) -> None:
    account = next(found for found in two.accounts if found.local == name)
    far = f"{name}@two.example"
    async with Slix(two.endpoint, account) as peer, browser(program, site, one, name, kind, tmp_path) as made:
        await made.seen("rosterContactsFetched")
        await made.say(far, f"from the page over {kind}")
        await peer.said(f"from the page over {kind}")
        peer.say(f"{name}@one.example", f"to the page over {kind}")
        await made.shows(far, f"to the page over {kind}")
        await made.run("api.contacts.add({ jid: %r }, true, true).then(() => null)" % far)
        await peer.until(lambda: peer.presences, "a request")
        peer.xmpp.send_presence(pto=f"{name}@one.example", ptype="subscribed")
        await made.until(f"(await api.contacts.get({far!r}))?.get('subscription') === 'to' || null")
        await made.run("sessionStorage.clear()")
        await made.run("reload")
        await made.seen("connected")
        await made.seen("rosterContactsFetched")
        await made.run(f"api.chats.open({far!r}, {{}}, true).then(() => null)")
        await made.shows(far, f"from the page over {kind}")
        await made.shows(far, f"to the page over {kind}")
        assert await made.run(f"api.contacts.get({far!r}).then((contact) => contact.get('subscription'))") == "to"
