"""JSON on both sides of two domains, beside XMPP, in real processes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakePair
from tests.kit.counted import CountedClient
from tests.kit.json_server import Socket
from tests.kit.node import ParleyServer
from tests.kit.server import Account


class Client:
    """A JSON client of one account."""

    def __init__(self, node: ParleyServer, account: Account, http: aiohttp.ClientSession) -> None:
        self._node, self.account, self._http = node, account, http
        self.token = ""

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._http.post(self._node.base_url + path, json=body, headers=headers) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            assert answer.status < 300, found
            return found

    async def login(self) -> "Client":
        grant = await self.post("/v1/sessions", {"username": self.account.jid, "password": self.account.password})
        self.token = grant["access_token"]
        return self

    async def send(self, to: str, text: str, client_id: str) -> int:
        made = await self.post("/v1/messages", {"to": to, "text": text, "client_id": client_id})
        return int(made["message_id"])

    @asynccontextmanager
    async def socket(self, cursor: int | None = None) -> AsyncIterator[Socket]:
        async with self._http.ws_connect(self._node.base_url + "/v1/ws") as raw:
            made = Socket(raw)
            frame: dict[str, Any] = {"type": "auth", "access_token": self.token}
            await made.send(frame if cursor is None else frame | {"cursor": cursor})
            made.ready = await made.take("ready")
            yield made


@asynccontextmanager
async def session(node: ParleyServer) -> AsyncIterator[aiohttp.ClientSession]:
    trust = ssl.create_default_context(cafile=str(node.authority.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as made:
        yield made


async def test_json_on_both_sides_and_xmpp_beside(make_pair: MakePair) -> None:
    one, other = make_pair(["ann", "bob"], extra={"log": {"level": "debug"}})
    await asyncio.gather(one.start(), other.start())
    async with session(one) as http:
        ann = await Client(one, one.accounts[0], http).login()
        bob = await Client(other, other.accounts[1], http).login()
        phone = CountedClient(other.endpoint, other.accounts[1])
        await phone.begin()
        async with ann.socket() as ann_live, bob.socket() as bob_live:
            await bob_live.take("synced")
            await ann_live.send({"type": "send", "client_id": "c1", "to": bob.account.jid, "text": "over two domains"})
            assert (await ann_live.take("sent"))["message_id"]
            event = (await bob_live.take("message"))["event"]
            assert (event["text"], event["client_id"], event["kind"]) == ("over two domains", "c1", "chat")
            assert event["conversation"] == ann.account.jid
            await phone.heard(1)
            (stanza,) = phone.messages
            origin = stanza.find(f"{{{ns.STANZA_ID}}}origin-id")
            assert stanza.get("type") == "chat"
            assert stanza.findtext(f"{{{ns.CLIENT}}}body") == "over two domains"
            assert origin is not None
            assert origin.get("id") == "c1"
            phone.say(ann.account.jid, "from XMPP", "x1")
            event = (await ann_live.take("message"))["event"]
            assert (event["text"], event["direction"], event["stanza_id"]) == ("from XMPP", "incoming", "x1")
            copy = (await bob_live.take("message"))["event"]
            assert (copy["text"], copy["direction"]) == ("from XMPP", "outgoing")
            await bob.send(ann.account.jid, "and JSON back", "c1")
            assert (await ann_live.take("message"))["event"]["text"] == "and JSON back"
    secrets = [account.password for account in (*one.accounts, *other.accounts)] + [ann.token, bob.token]
    for node in (one, other):
        log = node.log_tail(100_000)
        assert "debug" in log.lower()
        assert [secret for secret in secrets if secret in log] == []


async def test_a_cursor_holds_over_the_death_of_the_server(make_pair: MakePair) -> None:
    one, other = make_pair(["ann", "bob"])
    await asyncio.gather(one.start(), other.start())
    async with session(one) as http:
        ann = await Client(one, one.accounts[0], http).login()
        bob = await Client(other, other.accounts[1], http).login()
        async with bob.socket() as live:
            await live.take("synced")
            await ann.send(bob.account.jid, "0", "c0")
            cursor = (await live.take("message"))["position"]
        await other.kill9()
        sent = [await ann.send(bob.account.jid, str(number), f"c{number}") for number in range(1, 6)]
        await other.start()
        async with bob.socket(cursor) as live:
            assert await live.texts(5, patience=60) == ["1", "2", "3", "4", "5"]
        assert await ann.send(bob.account.jid, "3", "c3") == sent[2]
