"""The JSON API as a device of an account: HTTP and the WebSocket, with aiohttp's client."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.kit.server import Account

PATIENCE: Final = 20.0


class JsonDevice:
    """Logs in, opens the WebSocket and gathers what comes; use as ``async with``.

    ``events`` are messages in order, ``frames`` everything that came over the WebSocket.
    """

    def __init__(self, base_url: str, ca_file: Path, account: Account) -> None:
        self.account = account
        self.events: list[dict[str, Any]] = []
        self.frames: list[dict[str, Any]] = []
        self._base_url = base_url
        self._trust = ssl.create_default_context(cafile=str(ca_file))
        self._stack = AsyncExitStack()
        self._moved = asyncio.Event()
        self._serial = 0
        self._headers: dict[str, str] = {}

    @property
    def texts(self) -> list[str]:
        """The texts that came from others, in order."""
        return [event["text"] for event in self.events if event["direction"] == "incoming"]

    async def __aenter__(self) -> "JsonDevice":
        connector = aiohttp.TCPConnector(ssl=self._trust)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        grant = await self.call(
            "POST", "/v1/sessions", {"username": self.account.jid, "password": self.account.password}
        )
        self._headers = {"Authorization": f"Bearer {grant['access_token']}"}
        self._socket = await self._stack.enter_async_context(
            self._http.ws_connect(self._base_url + "/v1/ws", headers=self._headers)
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._stack.aclose()

    async def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request; the decoded answer. AssertionError for a refusal."""
        url = self._base_url + path
        async with self._http.request(method, url, json=body, headers=self._headers) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            assert answer.status < 300, found
            return found

    async def send(self, to: str, text: str) -> int:
        """Send one message; its id, once it is stored."""
        self._serial += 1
        body = {"to": to, "text": text, "client_id": f"{id(self)}-{self._serial}"}
        return int((await self.call("POST", "/v1/messages", body))["message_id"])

    async def said(self, *texts: str) -> None:
        """Wait until exactly these texts came, in this order."""
        await self.until(lambda: len(self.texts) >= len(texts))
        assert self.texts == list(texts)

    async def show(self, **presence: Any) -> None:
        """Send a presence frame."""
        await self._socket.send_json({"type": "presence", "available": True, **presence})

    async def frame(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Wait for a frame of that type with these members."""

        def found() -> list[dict[str, Any]]:
            return [frame for frame in self.frames if frame["type"] == kind and wanted.items() <= frame.items()]

        await self.until(lambda: bool(found()))
        return found()[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at whenever a message came."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    async def archive(self, peer: str) -> list[str]:
        """The texts of the conversation with ``peer``, oldest first."""
        page = await self.call("GET", f"/v1/conversations/{peer}/messages")
        assert page["complete"]
        return [event["text"] for event in page["messages"]]

    async def _read(self) -> None:
        async for raw in self._socket:
            frame = raw.json()
            self.frames.append(frame)
            if frame["type"] == "message":
                self.events.append(frame["event"])
                await self._socket.send_json({"type": "ack", "position": frame["position"]})
            self._moved.set()
