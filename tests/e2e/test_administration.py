"""Administration of a running server: by a client that others wrote, over JSON, and through a kill."""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
import slixmpp

from tests.e2e.conftest import MakeNode
from tests.e2e.test_invites import call
from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

MANY = 4000


async def administered(slix: Slix, name: str, **fields: Any) -> Any:
    """Run a command of XEP-0133 as the library does it; the last answer's command."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(iq: Any, session: dict[str, Any]) -> None:
        if iq["command"]["status"] == "completed":
            done.set_result(iq["command"])
            return
        form = iq["command"]["form"]
        form["type"] = "submit"
        form.set_values(fields)
        session["payload"] = form
        session["next"] = answered
        slix.plugin(50).complete_command(session)

    def failed(iq: Any, _session: dict[str, Any]) -> None:
        done.set_exception(RuntimeError(iq["error"]["condition"]))

    getattr(slix.plugin(133), name)(
        jid="parley.example", session={"next": answered, "error": failed}, ifrom=slix.xmpp.boundjid
    )
    return await asyncio.wait_for(done, 20)


def slix(node: ParleyServer, name: str) -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint, account, plugins=(*PLUGINS, "xep_0050", "xep_0133"))


async def test_a_client_of_others_administers_and_stops_the_server(make_node: MakeNode) -> None:
    node = make_node(["boss", "ann"])
    await node.start()
    await node.run_command("account", "role", "boss@parley.example", "admin")
    async with slix(node, "boss") as boss, slix(node, "ann") as ann:
        offered = await boss.plugin(30).get_items(
            slixmpp.JID("parley.example"), node="http://jabber.org/protocol/commands"
        )
        assert len(offered["disco_items"]["items"]) > 25
        number = await administered(boss, "get_registered_users_num")
        assert number["form"].get_values()["registeredusersnum"] == "2"
        await administered(boss, "add_user", accountjid="new@parley.example", password="a long secret")
        listed = await administered(boss, "get_registered_users_list", max_items="none")
        addresses = listed["form"].get_values()["registereduserjids"]
        assert addresses == ["ann@parley.example", "boss@parley.example", "new@parley.example"]
        await administered(boss, "announce", announcement="Tea is ready")
        await ann.said("Tea is ready")
        await administered(boss, "set_motd", motd="Be kind")
        await ann.until(lambda: "Be kind" in ann.bodies)
        with pytest.raises(RuntimeError, match="forbidden"):
            await administered(ann, "get_registered_users_num")
        await administered(boss, "shutdown", delay="1", announcement="Bye")
        await ann.until(lambda: "Bye" in ann.bodies)
        async with asyncio.timeout(20):
            while node.returncode is None:
                await asyncio.sleep(0.05)
        assert node.returncode == 0


async def test_a_kill_in_the_middle_of_an_announcement(make_node: MakeNode) -> None:
    """Everybody has it, nobody twice."""
    node = make_node(["boss"])
    await node.start()
    await node.run_command("account", "role", "boss@parley.example", "admin")
    await node.stop()
    store = node.data / "parley.db"
    with closing(sqlite3.connect(store)) as connection:
        rows = [(f"u{number}@parley.example", "parley.example", time.time()) for number in range(MANY)]
        insert = "INSERT INTO account (jid, domain, state, role, created) VALUES (?, ?, 0, 'member', ?)"
        connection.executemany(insert, rows)
        connection.commit()
    await node.start()
    await announce(node)
    await told(node, 1)
    await node.kill9()
    with closing(sqlite3.connect(store)) as connection:
        [(before, finished)] = connection.execute("SELECT told, finished FROM announcement").fetchall()
    assert 0 < before <= MANY + 1
    await node.start()
    await told(node, MANY + 1)
    await node.stop()
    with closing(sqlite3.connect(store)) as connection:
        copies = Counter(row[0] for row in connection.execute("SELECT recipient FROM log"))
    assert len(copies) == MANY + 1
    assert set(copies.values()) == {1}
    assert finished is None, "the kill came too late to prove anything"


async def announce(node: ParleyServer) -> None:
    status, _ = await call(node, "POST", "/v1/admin/announcements", {"text": "New rules"}, await login(node))
    assert status == 201


async def login(node: ParleyServer) -> str:
    _, text = await call(node, "POST", "/v1/sessions", {"username": "boss", "password": "secret-boss"})
    return str(json.loads(text)["access_token"])


async def told(node: ParleyServer, count: int) -> None:
    """Until so many accounts were told."""
    token = await login(node)
    async with asyncio.timeout(60):
        while True:
            _, text = await call(node, "GET", "/v1/admin/announcements", None, token)
            if json.loads(text)["announcements"][0]["told"] >= count:
                return
