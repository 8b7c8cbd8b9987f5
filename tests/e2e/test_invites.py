"""Invitations over real connections: made by the operator, by a client, over JSON; used on TCP and WebSocket, by a client
that others wrote, and from another server."""

import asyncio
import json
import re
import ssl
import urllib.request
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import slixmpp

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode, MakePair
from tests.e2e.interop.test_websocket import Frames, socket
from tests.e2e.test_contacts import ask, client, until
from tests.e2e.test_registration import query
from tests.kit.node import ParleyServer
from tests.kit.raw import LoginFailed, RawClient
from tests.kit.server import Account
from tests.kit.slix import PLUGINS, Slix

INVITED = {"accounts": {"registration": "invite"}}
PASSWORD = "Calliope 99"
CREDENTIALS = "<username>{}</username><password>Calliope 99</password>"


def preauth(token: str) -> str:
    return f"<preauth xmlns='{ns.PRE_AUTHENTICATION}' token='{token}'/>"


def show(token: str, stanza_id: str = "pa") -> str:
    return f"<iq xmlns='{ns.CLIENT}' type='set' id='{stanza_id}'>{preauth(token)}</iq>"


def condition(answer: Element) -> tuple[str, str]:
    error = answer.find(f"{{{ns.CLIENT}}}error")
    assert error is not None
    return error[0].tag.rpartition("}")[2], error.get("type", "")


async def invitation(node: ParleyServer, *words: str) -> tuple[str, str]:
    """The operator invites: token and URI."""
    printed = await node.run_command("invite", "create", *words)
    url, uri, _ = printed.splitlines()
    assert url.startswith(f"{node.base_url}/invite/")
    return url.rpartition("/")[2], uri


async def test_an_account_by_invitation(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra=INVITED)
    await node.start()
    token, uri = await invitation(node, "--by", "ann@parley.example")
    assert uri == f"xmpp:ann@parley.example?roster;preauth={token};ibr=y"
    async with client(node, "ann") as ann:
        guest = RawClient(node.endpoint)
        features = await guest.open()
        for name in (ns.REGISTER_FEATURE, ns.INVITATION, ns.INVITATION_LEGACY):
            assert features.find(f"{{{name}}}register") is not None, name
        answers = [
            await ask(guest, query("get", "r1", ""), "r1"),
            await ask(guest, query("set", "r2", CREDENTIALS.format("bill")), "r2"),
        ]
        assert [condition(answer) for answer in answers] == [("not-allowed", "cancel")] * 2
        assert condition(await ask(guest, show("guess"), "pa")) == ("item-not-found", "cancel")
        assert (await ask(guest, show(token, "pb"), "pb")).get("type") == "result"
        assert (await ask(guest, query("get", "r3", ""), "r3")).get("type") == "result"
        made = await ask(guest, query("set", "r4", CREDENTIALS.format("bill")), "r4")
        assert made.get("type") == "result"
        await until(ann, "push bill@parley.example both")
        await guest.authenticate(Account("bill@parley.example", PASSWORD))
        await guest.bind("x")
        guest.write("<presence/>")
        await until(ann, "available bill@parley.example/x ->")
        guest.abort()
    late = RawClient(node.endpoint)
    await late.open()
    assert condition(await ask(late, show(token), "pa")) == ("item-not-found", "cancel")
    late.abort()


async def test_a_kept_name_over_websocket(make_node: MakeNode) -> None:
    node = make_node([], extra=INVITED)
    await node.start()
    token, uri = await invitation(node, "--username", "juliet", "--lifetime", "1 hour")
    assert uri == f"xmpp:juliet@parley.example?register;preauth={token}"
    async with socket(node) as frames:
        assert (await frames.open()).find(f"{{{ns.INVITATION}}}register") is not None

        async def said(text: str) -> Element:
            await frames.send(
                text.replace("<iq ", f"<iq xmlns='{ns.CLIENT}' ", 1) if "xmlns" not in text[:20] else text
            )
            return await frames.until(f"{{{ns.CLIENT}}}iq")

        assert (await said(show(token))).get("type") == "result"
        form = await said(query("get", "r1", ""))
        assert form.findtext(f"{{{ns.REGISTER}}}query/{{{ns.REGISTER}}}username") == "juliet"
        refused = await said(query("set", "r2", CREDENTIALS.format("romeo")))
        assert condition(refused) == ("forbidden", "auth")
        assert (await said(query("set", "r3", CREDENTIALS.format("juliet")))).get("type") == "result"
    async with socket(node) as frames:
        await Frames.authenticate(frames, "juliet", PASSWORD)


async def test_a_closed_server_says_nothing_of_invitations(make_node: MakeNode) -> None:
    node = make_node([])
    await node.start()
    guest = RawClient(node.endpoint)
    features = await guest.open()
    assert not [part for part in features if part.tag.endswith("}register")]
    guest.abort()
    with pytest.raises(RuntimeError, match="accounts are made by the operator"):
        await node.run_command("invite", "create")


async def test_a_client_invites_somebody_of_another_server(make_pair: MakePair) -> None:
    """XEP-0401 and XEP-0379 with slixmpp on both sides; nobody is asked anything."""
    one, two = make_pair(["ann", "bob"], extra=INVITED)
    await one.start()
    await two.start()
    plugins = (*PLUGINS, "xep_0050")
    async with (
        Slix(one.endpoint, one.accounts[0], "a", plugins=plugins) as ann,
        Slix(two.endpoint, two.accounts[1], "b") as bob,
    ):
        items = await ann.plugin(50).get_commands(jid=slixmpp.JID("one.example"))
        assert ns.INVITE_COMMAND in {node for _, node, _ in items["disco_items"]["items"]}
        command = await ann.plugin(50).send_command(slixmpp.JID("one.example"), ns.INVITE_COMMAND)
        uri = command["command"]["form"].get_values()["uri"]
        found = re.fullmatch(r"xmpp:ann@one\.example\?roster;preauth=(\w+);ibr=y", uri)
        assert found is not None
        bob.xmpp.send_presence(pto=slixmpp.JID("ann@one.example"), ptype="subscribed")
        bob.xmpp.send_raw(f"<presence to='ann@one.example' type='subscribe'>{preauth(found[1])}</presence>")
        await ann.sees("bob@two.example/b", "available")
        await bob.sees("ann@one.example/a", "available")
        assert not [seen for seen in (*ann.presences, *bob.presences) if seen["type"] == "subscribe"]


async def call(node: ParleyServer, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, str]:
    """One request to the https listener, outside of any session."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    made = urllib.request.Request(node.base_url + path, data, headers, method=method)
    trust = ssl.create_default_context(cafile=str(node.authority.ca_file))

    def run() -> tuple[int, str]:
        with urllib.request.urlopen(made, context=trust) as answer:
            return answer.status, answer.read().decode()

    return await asyncio.to_thread(run)


async def test_the_operator_invites_lists_revokes_and_resets(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra=INVITED)
    # Without a server that runs, and with one.
    for is_running in (False, True):
        token, _ = await invitation(node, "--uses", "3")
        number = (await node.run_command("invite", "list")).split("\t")[0]
        assert token not in await node.run_command("invite", "list")
        assert "revoked" in await node.run_command("invite", "revoke", number)
        assert await node.run_command("invite", "list") == ""
        if not is_running:
            await node.start()
    url = (await node.run_command("invite", "reset", "ann@parley.example")).splitlines()[0]
    status, text = await call(node, "GET", url.removeprefix(node.base_url))
    assert (status, "ann@parley.example" in text) == (200, True)


async def test_a_role_changes_what_a_running_session_may_do(make_pair: MakePair) -> None:
    one, two = make_pair(["ann", "bob"])
    await one.start()
    await two.start()
    async with client(one, "ann") as ann, client(two, "bob") as bob:
        ann.write("<message to='bob@two.example' type='chat' id='m1'><body>one</body></message>")
        while (await bob.next()).get("id") != "m1":
            pass
        await one.run_command("account", "role", "ann@one.example", "guest")
        ann.write("<message to='bob@two.example' type='chat' id='m2'><body>two</body></message>")
        while (answer := await ann.next()).get("id") != "m2":
            pass
        assert condition(answer) == ("not-allowed", "cancel")
        bob.write("<message to='ann@one.example' type='chat' id='m3'><body>three</body></message>")
        while (answer := await bob.next()).get("id") != "m3":
            pass
        assert condition(answer) == ("service-unavailable", "cancel")


async def test_s75_guessing_over_xmpp_is_slowed(make_node: MakeNode) -> None:
    """Six tokens from one address: the sixth is not looked at, on a new connection neither."""
    extra = {**INVITED, "limits": {"off_on_loopback": False}}
    node = make_node(["ann"], extra=extra)
    await node.start()
    conditions = []
    for number in range(2):
        guest = RawClient(node.endpoint)
        await guest.open()
        for turn in range(4):
            name = f"g{number}{turn}"
            conditions.append(condition(await ask(guest, show("guess", name), name)))
        guest.abort()
    assert conditions == [("item-not-found", "cancel")] * 5 + [("resource-constraint", "wait")] * 3
    nobody = RawClient(node.endpoint)
    with pytest.raises(LoginFailed):
        await nobody.login(Account("guess@parley.example", PASSWORD))
    nobody.abort()
