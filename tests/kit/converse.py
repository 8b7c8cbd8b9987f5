"""converse.js in headless Chromium: a page served on loopback, and one browser with a profile of its own per account."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from tests.kit.node import HOST, ParleyServer
from tests.kit.npm import node as node_path

CHROMIUM: Final = shutil.which("chromium")
PATIENCE: Final = 90.0
_WAYS: Final = {"websocket": "websocket_url", "bosh": "bosh_service_url"}
_PAGE: Final = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="dist/converse.min.css"><body>
<script type="module">
const told = new URLSearchParams(location.search);
window.seen = [];
window.until = async (test) => {
  for (;;) {
    const found = await test();
    if (found) return found;
    await new Promise((go) => setTimeout(go, 50));
  }
};
await import("./dist/converse.min.js");
converse.plugins.add("probe", { initialize() {
  window.api = this._converse.api;
  window._converse = this._converse;
  for (const event of ["connected", "reconnected", "rosterContactsFetched", "OMEMOInitialized", "disconnected"])
    api.listen.on(event, () => seen.push(event));
} });
await converse.initialize({
  authentication: "login", auto_login: true, jid: told.get("jid"), password: told.get("password"),
  [told.get("way")]: told.get("url"), discover_connection_methods: false, view_mode: "fullscreen",
  assets_path: "/dist/", whitelisted_plugins: ["probe"], enable_smacks: true, loglevel: told.get("loglevel"), i18n: "en",
  play_sounds: false, auto_reconnect: true, show_desktop_notifications: false, omemo_default: false,
  persistent_store: "sessionStorage", clear_cache_on_logout: false,
});
</script>"""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the page is, and the driver (tests/e2e/interop/converse.mjs) beside its packages."""

    url: str
    driver: Path


@contextlib.asynccontextmanager
async def served(driver: Path) -> AsyncIterator[Site]:
    """The page and what it loads, on a free port of loopback."""
    dist = driver.parent / "node_modules" / "converse.js" / "dist"

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_static("/dist", dist)
    app.router.add_static("/", dist)  # where its OMEMO library looks for WebAssembly
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        yield Site(f"http://{HOST}:{runner.addresses[0][1]}/", driver)
    finally:
        await runner.cleanup()


class Browser:
    """One profile with the page open. Expressions are JavaScript; ``api`` in them is converse.js's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    async def answer(self) -> Any:
        """The next answer of the driver; AssertionError if it is an error or the browser has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the browser has ended"
        found = json.loads(line)
        assert "error" not in found, found["error"]
        return found.get("value")

    async def run(self, code: str) -> Any:
        """Evaluate an expression, promises awaited. Its value must be plain."""
        assert self._process.stdin is not None
        self._number += 1
        self._process.stdin.write(json.dumps({"id": self._number, "code": code}).encode() + b"\n")
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.answer()
        except TimeoutError as error:
            raise AssertionError(f"not done in {PATIENCE} s: {code}") from error

    async def until(self, code: str) -> Any:
        """Evaluate an expression until it is true; its value."""
        return await self.run(f"until(async () => {code})")

    async def seen(self, event: str) -> None:
        """Wait until converse.js told of an event since the page was loaded."""
        await self.until(f"seen.includes({json.dumps(event)})")

    async def ready(self) -> None:
        """Wait until it is logged in, knows its contacts and has keys of its own."""
        for event in ("connected", "rosterContactsFetched", "OMEMOInitialized"):
            await self.seen(event)

    async def reload(self) -> None:
        """Load the page again: it resumes its session with what it has stored."""
        await self.run("reload")
        await self.seen("connected")

    async def new_tab(self) -> None:
        """Close the page and load it where nothing is stored: a new device."""
        await self.run("new tab")
        await self.ready()

    async def open(self, jid: str) -> None:
        """Open the chat with somebody, as a click on the contact does."""
        await self.run(f"api.chats.open({json.dumps(jid)}, {{}}, true).then(() => null)")

    async def chat(self, jid: str, call: str) -> Any:
        """Evaluate an expression with ``chat``, the open chat with somebody; its value is dropped."""
        return await self.run(f"api.chats.get({json.dumps(jid)}).then((chat) => {call}).then(() => null)")

    async def say(self, jid: str, text: str) -> None:
        """Write to somebody."""
        await self.open(jid)
        await self.chat(jid, f"chat.sendMessage({json.dumps({'body': text})})")

    async def shows(self, jid: str, text: str) -> dict[str, Any]:
        """Wait until a text is in the chat with somebody, decrypted where it was encrypted; the message's attributes."""
        found = await self.until(
            f"(await api.chats.get({json.dumps(jid)}))?.messages.models.find("
            f"(one) => (one.get('plaintext') ?? one.get('message') ?? one.get('body')) === {json.dumps(text)})?.toJSON()"
        )
        assert isinstance(found, dict)
        return found


@contextlib.asynccontextmanager
async def browser(site: Site, node: ParleyServer, name: str, way: str, folder: Path) -> AsyncIterator[Browser]:
    """A browser where ``name`` of ``node`` is logged in, over "websocket" or "bosh". Its log is in ``folder``."""
    assert CHROMIUM is not None
    url = node.base_url + "/http-bind" if way == "bosh" else f"wss://{HOST}:{node.ports.https}/xmpp-websocket"
    told = {
        "jid": f"{name}@{node.domain}",
        "password": f"secret-{name}",
        "way": _WAYS[way],
        "url": url,
        "loglevel": "warn",
    }
    with (folder / f"{name}-{way}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            node_path(), site.driver, folder / f"profile-{name}-{way}", f"{site.url}?{urlencode(told)}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 24,
            env={**os.environ, "CHROMIUM": CHROMIUM},
        )  # fmt: skip
        made = Browser(process)
        try:
            async with asyncio.timeout(PATIENCE):
                await made.answer()
            await made.ready()
            yield made
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()
