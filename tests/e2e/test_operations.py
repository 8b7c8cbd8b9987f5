"""What an operator sees and does while the server runs: numbers, readiness, reload, a full disk, keys."""

import asyncio
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from homeserver.metrics import FAMILIES
from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode, MakePair
from tests.kit.counted import CountedClient
from tests.kit.node import ParleyServer
from tests.kit.server import Account

SECONDS = 15


class Operator:
    """Asks one node over HTTP."""

    def __init__(self, node: ParleyServer, http: aiohttp.ClientSession) -> None:
        self.node = node
        self._http = http

    async def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._http.request(method, self.node.base_url + path, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, await answer.json(content_type=None) if "json" in answer.content_type else text

    async def token(self, account: Account) -> str:
        body = {"username": account.jid, "password": account.password}
        status, grant = await self.call("POST", "/v1/sessions", body)
        assert status == 201, grant
        return str(grant["access_token"])

    async def numbers(self) -> dict[str, float]:
        """Every sample of `/metrics` by name and labels."""
        status, text = await self.call("GET", "/metrics")
        assert status == 200
        return {key: float(value) for key, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}

    def websocket(self) -> Any:
        """A socket for XMPP."""
        return self._http.ws_connect(self.node.base_url + "/xmpp-websocket", protocols=("xmpp",))

    async def until(self, path: str, wanted: int) -> str:
        """Ask again until that status comes; the text."""
        async with asyncio.timeout(SECONDS):
            while True:
                status, text = await self.call("GET", path)
                if status == wanted:
                    return str(text)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def operator(node: ParleyServer) -> AsyncIterator[Operator]:
    context = ssl.create_default_context(cafile=str(node.authority.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        yield Operator(node, http)


async def log_says(node: ParleyServer, text: str, times: int = 1) -> None:
    async with asyncio.timeout(SECONDS):
        while node.log_tail(400).count(text) < times:
            await asyncio.sleep(0.02)


async def test_metrics_are_what_happened(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with operator(node) as asked:
        before = await asked.numbers()
        ann, bob = (CountedClient(node.endpoint, account) for account in node.accounts)
        await ann.begin()
        await bob.begin()
        for number in range(3):
            ann.say(bob.account.jid, f"m{number}", f"i{number}")
        ann.send(f"<iq type='get' id='p'><ping xmlns='{ns.PING}'/></iq>")
        await ann.settled()
        await bob.heard(3)
        wrong = Account(node.accounts[0].jid, "not the password")
        with pytest.raises(Exception, match="not-authorized"):
            await CountedClient(node.endpoint, wrong).raw.login(wrong)
        token = await asked.token(node.accounts[0])
        body = {"to": bob.account.jid, "text": "m3", "client_id": "c1"}
        assert (await asked.call("POST", "/v1/messages", body, token))[0] == 201
        assert (await asked.call("GET", "/v1/nothing", token=token))[0] == 404
        after = await asked.numbers()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    assert grown['parley_connections{face="xmpp"}'] in (2, 3)
    assert after['parley_connections{face="http"}'] >= 1
    assert after["parley_sessions"] == 2
    assert grown['parley_logins_total{outcome="accepted"}'] == 3
    assert grown['parley_logins_total{outcome="refused"}'] == 1
    assert grown['parley_stanzas_total{kind="message"}'] == 3
    assert grown['parley_stanzas_total{kind="presence"}'] == 2
    assert grown['parley_stanzas_total{kind="iq"}'] == 1
    assert grown["parley_messages_stored_total"] == 4
    assert grown["parley_commit_rows_sum"] == 4
    assert 1 <= grown["parley_commit_seconds_count"] == grown["parley_commit_rows_count"]
    assert grown["parley_commit_seconds_sum"] > 0
    # The first scrape is counted when it was answered: with the login, the message and the unknown path that is four.
    assert grown['parley_http_requests_total{status="2xx"}'] == 3
    assert grown['parley_http_requests_total{status="4xx"}'] == 1
    assert grown["parley_http_seconds_count"] == 4
    assert after["parley_store_bytes"] > 10_000
    assert after["parley_certificate_expiry_seconds"] > 1.7e9
    assert after["process_resident_memory_bytes"] > 1e7
    assert after["process_cpu_seconds_total"] > 0


async def test_connections_are_counted_by_face(make_node: MakeNode) -> None:
    node = make_node(["ann"])
    await node.start()
    ann = CountedClient(node.endpoint, node.accounts[0])
    await ann.begin()
    async with operator(node) as asked:
        async with asked.websocket() as socket:
            opening = f"<open xmlns='{ns.FRAMING}' to='{node.domain}' version='1.0'/>"
            await socket.send_str(opening)
            assert "<open" in (await socket.receive_str(timeout=10))
            numbers = await asked.numbers()
            assert numbers['parley_connections{face="xmpp"}'] == 1
            assert numbers['parley_connections{face="websocket"}'] == 1
            assert numbers['parley_connections{face="http"}'] == 2
        ann.raw.abort()
        async with asyncio.timeout(SECONDS):
            while True:
                numbers = await asked.numbers()
                if not numbers['parley_connections{face="xmpp"}'] + numbers['parley_connections{face="websocket"}']:
                    break
                await asyncio.sleep(0.02)
        assert numbers["parley_sessions"] == 1, "it waits to be resumed"


async def test_metrics_of_federation(make_pair: MakePair) -> None:
    one, two = make_pair(["ann"])
    await one.start()
    await two.start()
    ann, other = (CountedClient(node.endpoint, node.accounts[0]) for node in (one, two))
    await ann.begin()
    await other.begin()
    ann.say(other.account.jid, "far", "i1")
    await other.heard(1)
    async with operator(one) as here, operator(two) as there:
        async with asyncio.timeout(SECONDS):
            while (await here.numbers())['parley_federation_sent_total{outcome="accepted"}'] < 1:
                await asyncio.sleep(0.02)
        sent, received = await here.numbers(), await there.numbers()
        assert received['parley_federation_received_total{outcome="accepted"}'] >= 1
        assert received['parley_federation_received_total{outcome="refused"}'] == 0
        assert sum(sent[f'parley_outbox_waiting{{state="{state}"}}'] for state in ("ready", "waiting")) == 0
        for family in FAMILIES:
            assert any(name.startswith(f"parley_{family.name}") for name in sent), family.name
        await two.kill9()
        ann.say(other.account.jid, "later", "i2")
        await ann.settled()
        async with asyncio.timeout(SECONDS):
            while True:
                found = await here.numbers()
                waits = found['parley_outbox_waiting{state="waiting"}'] + found['parley_outbox_waiting{state="ready"}']
                if waits == 1 and found['parley_federation_sent_total{outcome="failed"}'] >= 1:
                    break
                await asyncio.sleep(0.02)


def edit(node: ParleyServer, *changes: tuple[str, str]) -> None:
    """Replace lines of the configuration, or add keys to a section ``[name]``."""
    text = node.config.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    node.config.write_text(text)


async def test_reload_takes_over_what_it_says_and_reports_the_rest(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"accounts": {"registration": "closed"}, "archive": {"page_max": 100}})
    await node.start()
    ann = CountedClient(node.endpoint, node.accounts[0])
    await ann.begin()
    async with operator(node) as asked:
        token = await asked.token(node.accounts[0])
        for number in range(4):
            ann.say(node.accounts[0].jid, f"m{number}", f"i{number}")
        await ann.settled()
        new = {"username": "eve", "password": "secret-eve"}
        assert (await asked.call("POST", "/v1/accounts", new))[0] == 403
        assert len((await asked.call("GET", "/v1/sync", token=token))[1]["events"]) == 4
        edit(
            node,
            ('registration = "closed"', 'registration = "open"'),
            ("page_max = 100", 'page_max = 2\npage_default = 2\nretention = "1 day"'),
            ("[limits]", '[limits]\nrequests_per_account = "3 per hour"'),
            ("off_on_loopback = true", "off_on_loopback = false"),
            ("[log]", "[storage]\nreaders = 1\n\n[log]"),
        )
        os.kill(node.pid, signal.SIGHUP)
        await log_says(node, "configuration read again")
        await log_says(node, "these changes need a restart")
        log = node.log_tail(400)
        assert "storage.readers" in log
        for key in ("accounts.registration", "archive.page_max", "archive.retention", "limits.requests_per_account"):
            assert key in log, key
        assert (await asked.call("POST", "/v1/accounts", new))[0] == 201
        assert len((await asked.call("GET", "/v1/sync", token=token))[1]["events"]) == 2
        statuses = [(await asked.call("GET", "/v1/account", token=token))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
    features = CountedClient(node.endpoint, node.accounts[0])
    await features.raw.open()
    ann.say(node.accounts[0].jid, "still here", "i9")
    await ann.settled()


async def test_reload_of_federation_lists(make_pair: MakePair) -> None:
    one, two = make_pair(["ann"])
    await one.start()
    await two.start()
    ann, other = (CountedClient(node.endpoint, node.accounts[0]) for node in (one, two))
    await ann.begin()
    await other.begin()
    ann.say(other.account.jid, "before", "i1")
    await other.heard(1)
    edit(two, ("[federation]", f'[federation]\ndeny = ["{one.domain}"]'))
    os.kill(two.pid, signal.SIGHUP)
    await log_says(two, "configuration read again")
    ann.say(other.account.jid, "refused", "i2")
    async with asyncio.timeout(SECONDS):
        while not any(message.get("type") == "error" for message in ann.messages):
            await ann.heard(len(ann.messages) + 1)
    edit(two, (f'deny = ["{one.domain}"]', "deny = []"))
    os.kill(two.pid, signal.SIGHUP)
    await log_says(two, "configuration read again", times=2)
    ann.say(other.account.jid, "after", "i3")
    await other.heard(2)
    assert other.texts() == ["before", "after"]


async def test_r16_full_disk_over_json(make_node: MakeNode, small_disk: Path) -> None:
    node = make_node(["ann", "bob"], data=small_disk / "data")
    await node.start()
    async with operator(node) as asked:
        token = await asked.token(node.accounts[0])

        async def send(number: int) -> tuple[int, Any]:
            body = {"to": node.accounts[1].jid, "text": f"{number} " + "x" * 8000, "client_id": f"c{number}"}
            return await asked.call("POST", "/v1/messages", body, token)

        assert (await send(0))[0] == 201
        filler = small_disk / "filler"
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(b"\0" * (free - 128 * 1024))
        answers = [await send(number) for number in range(1, 80)]
        refused = [answer for answer in answers if answer[0] != 201]
        assert refused, "the disk was not full"
        assert {status for status, _ in refused} == {507}
        assert refused[0][1]["type"].endswith("storage-full")
        status, why = await asked.call("GET", "/readyz")
        assert (status, why) == (503, "the store cannot be written, there is no room left\n")
        assert (await asked.call("GET", "/healthz"))[0] == 200
        assert (await asked.call("GET", "/v1/sync", token=token))[0] == 200
        late = CountedClient(node.endpoint, node.accounts[1])
        await late.begin(presence=False)
        filler.unlink()
        assert await asked.until("/readyz", 200) == "ok\n"
        assert (await send(100))[0] == 201
        numbers = await asked.numbers()
        assert numbers["parley_commits_failed_total"] >= 1


async def test_keys_of_a_running_server(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"federation": {"enabled": True}})
    await node.start()
    listed = await node.run_command("keys", "list")
    assert listed.count("signs now") == 1
    old = listed.split("\t")[1]
    assert "signs with" in await node.run_command("keys", "revoke", node.domain, old, "--yes")
    async with operator(node) as asked:
        status, document = await asked.call("GET", f"/federation/keys/{node.domain}")
        assert status == 200
        assert "payload" in document
    after = await node.run_command("keys", "list")
    assert "ended" in after
    assert after.count("signs now") == 1
