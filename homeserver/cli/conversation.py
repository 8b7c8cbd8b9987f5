"""The conversation that `parley localserve` holds: one side over XMPP, the other over the JSON API and its WebSocket."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from slixmpp import JID, ClientXMPP

from homeserver.cli.demo import HOST, DemoError, Person, Place

SECONDS: Final = 20.0


class XmppSide:
    """A slixmpp client of one person. Use as `async with`."""

    def __init__(self, person: Person, place: Place, ca_file: Path) -> None:
        self._place = place
        self._client = ClientXMPP(f"{person.address}/localserve", person.password)
        self._client.ca_certs = ca_file
        self._received: asyncio.Queue[str] = asyncio.Queue()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client.add_event_handler("session_start", self._begin)
        self._client.add_event_handler("failed_all_auth", self._refused)
        self._client.add_event_handler("message", self._take)

    async def __aenter__(self) -> XmppSide:
        self._client.connect(HOST, self._place.xmpp)
        await self._started
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.disconnect()

    def send(self, to: str, text: str) -> None:
        """Sends a chat message."""
        self._client.send_message(mto=JID(to), mbody=text, mtype="chat")

    async def receive(self) -> str:
        """The next message's text."""
        return await self._received.get()

    def _begin(self, _event: object) -> None:
        self._client.send_presence()
        if not self._started.done():
            self._started.set_result(None)

    def _refused(self, _event: object) -> None:
        if not self._started.done():
            self._started.set_exception(DemoError("the XMPP login was refused"))

    def _take(self, message: Any) -> None:
        if message["type"] == "error":
            self._received.put_nowait(f"(not delivered: {message['error']['condition']})")
        elif message["body"]:
            self._received.put_nowait(str(message["body"]))


class JsonSide:
    """A JSON API client of one person, with the WebSocket open. Use as `async with`."""

    def __init__(self, person: Person, place: Place, trust: ssl.SSLContext) -> None:
        self._person, self._place, self._trust = person, place, trust
        self._stack = AsyncExitStack()
        self._token = ""

    async def __aenter__(self) -> JsonSide:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(self._place.url))
        login = {"username": self._person.address, "password": self._person.password}
        self._token = (await self._post("/v1/sessions", login))["access_token"]
        self._socket = await self._stack.enter_async_context(
            self._session.ws_connect("/v1/ws", ssl=self._trust, headers=self._headers())
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def send(self, to: str, text: str) -> None:
        """Sends a message."""
        await self._post("/v1/messages", {"to": to, "text": text, "client_id": uuid.uuid4().hex})

    async def receive(self) -> str:
        """The next message's text."""
        while True:
            frame = await self._socket.receive_json()
            if frame["type"] == "message" and frame["event"]["direction"] == "incoming":
                await self._socket.send_json({"type": "ack", "position": frame["position"]})
                return str(frame["event"].get("text", ""))

    async def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        async with self._session.post(path, json=body, ssl=self._trust, headers=self._headers()) as answer:
            document: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 300:
                raise DemoError(f"{path}: {answer.status} {document.get('detail') or document.get('title')}")
            return document

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


async def converse(
    xmpp: tuple[Person, Place], other: tuple[Person, Place], ca_file: Path, show: Callable[[str], None]
) -> None:
    """Two messages there and one back; `show` gets each line as it arrives. Raises `DemoError` when one does not."""
    trust = ssl.create_default_context(cafile=str(ca_file))
    (writer, writer_place), (reader, reader_place) = xmpp, other
    try:
        async with (
            asyncio.timeout(SECONDS),
            JsonSide(reader, reader_place, trust) as json_side,
            XmppSide(writer, writer_place, ca_file) as xmpp_side,
        ):
            for text in (f"Hello {reader.name}, this is {writer.name} over XMPP.", "How do you read me?"):
                xmpp_side.send(reader.address, text)
                show(f"{writer.address} -> {reader.address}: {await json_side.receive()}")
            await json_side.send(writer.address, "Loud and clear, over JSON.")
            show(f"{reader.address} -> {writer.address}: {await xmpp_side.receive()}")
    except TimeoutError as error:
        raise DemoError(f"the conversation stalled for {SECONDS:g} s; see the logs") from error
    except aiohttp.ClientError as error:
        raise DemoError(f"the conversation broke off: {error}") from error
