"""Tokens that XMPP clients log in with, in the right and in the wrong hands, against a real node: S-51 (XEP-0484)."""

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from xml.etree.ElementTree import Element

import aiohttp
import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import child, children
from tests.e2e.conftest import MakeNode
from tests.kit.client_stream import LoginFailed, RawClient
from tests.kit.node import HOST, ParleyServer

NONE = "HT-SHA-256-NONE"
BOUND = "HT-SHA-256-ENDP"


@asynccontextmanager
async def opened(node: ParleyServer, name: str = "ann", tls: ssl.SSLContext | None = None) -> AsyncIterator[RawClient]:
    """A stream that has its features."""
    made = RawClient(HOST, node.ports.xmpps if tls is not None else node.ports.xmpp, node.domain, timeout=20)
    await made.connect(tls)
    try:
        await made.open(f"{name}@{node.domain}")
        yield made
    finally:
        made.abort()


def agent(client: str, device: str = "Phone") -> str:
    return f"<user-agent id='{client}'><software>Test</software><device>{device}</device></user-agent>"


def wish(mechanism: str = NONE) -> str:
    return f"<request-token xmlns='{ns.FAST}' mechanism='{mechanism}'/>"


def given(success: Element) -> str:
    """The token in ``<success/>``."""
    found = child(success, ns.FAST, "token")
    assert found is not None
    assert found.get("expiry", "").endswith("Z")
    return found.get("token", "")


async def token(node: ParleyServer, client: str, mechanism: str = NONE, tls: ssl.SSLContext | None = None) -> str:
    """Log in with the password and ask for a token."""
    async with opened(node, tls=tls) as made:
        return given(await made.authenticate2("ann", "secret-ann", inline=agent(client) + wish(mechanism)))


async def refused(node: ParleyServer, text: str, client: str, mechanism: str = NONE, uses: str = "") -> str:
    """The condition with which a token is refused; the password still works on the same stream."""
    async with opened(node) as made:
        with pytest.raises(LoginFailed) as failure:
            await made.authenticate_token("ann", text, client, mechanism, uses)
        await made.authenticate2("ann", "secret-ann")
        return str(failure.value)


@asynccontextmanager
async def json(node: ParleyServer) -> AsyncIterator[Any]:
    """Calls of the JSON API as ann."""
    context = ssl.create_default_context(cafile=node.authority.ca_file)
    context.check_hostname = False
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        headers = {"Host": node.domain}

        async def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            url = f"https://{HOST}:{node.ports.https}{path}"
            async with http.request(method, url, json=body, headers=headers) as answer:
                return answer.status, (await answer.json(content_type=None)) if await answer.read() else None

        _, grant = await call("POST", "/v1/sessions", {"username": f"ann@{node.domain}", "password": "secret-ann"})
        headers["Authorization"] = f"Bearer {grant['access_token']}"
        yield call


async def test_s51_a_token_is_good_for_its_client_and_mechanism_only(node: ParleyServer) -> None:
    client = str(uuid.uuid4())
    text = await token(node, client)
    async with opened(node) as made:
        success = await made.authenticate_token("ann", text, client, inline=f"<bind xmlns='{ns.BIND2}'/>")
        assert made.jid.startswith(f"ann@{node.domain}/")
        assert child(success, ns.FAST, "token") is None  # it is young
    assert await refused(node, text, str(uuid.uuid4())) == "credentials-expired"
    assert await refused(node, text + "x", client) == "credentials-expired"
    async with opened(node, "bob") as bob:
        with pytest.raises(LoginFailed, match="credentials-expired"):
            await bob.authenticate_token("bob", text, client)
        with pytest.raises(LoginFailed, match="invalid-authzid"):
            await bob.authenticate_token("ann", text, client)


async def test_s51_a_token_bound_to_the_channel_does_not_work_without(node: ParleyServer) -> None:
    tls = ssl.create_default_context(cafile=node.authority.ca_file)
    client = str(uuid.uuid4())
    text = await token(node, client, BOUND, tls)
    async with opened(node, tls=tls) as made:
        with pytest.raises(LoginFailed, match="credentials-expired"):
            await made.authenticate_token("ann", text, client, NONE)
        await made.authenticate_token("ann", text, client, BOUND)
    async with opened(node) as bare:  # no channel, so none is offered that binds to it
        await bare.send(
            f"<authenticate xmlns='{ns.SASL2}' mechanism='{BOUND}'><initial-response>YW5uAHg=</initial-response>"
            f"{agent(client)}<fast xmlns='{ns.FAST}'/></authenticate>"
        )
        assert (await bare.recv())[0].tag == f"{{{ns.SASL}}}invalid-mechanism"


async def test_s51_a_counter_that_does_not_grow_is_a_replay(node: ParleyServer) -> None:
    client = str(uuid.uuid4())
    text = await token(node, client)
    for count in (1, 5):
        async with opened(node) as made:
            await made.authenticate_token("ann", text, client, uses=f" count='{count}'")
    assert await refused(node, text, client, uses=" count='5'") == "credentials-expired"
    assert await refused(node, text, client, uses=" count='4'") == "credentials-expired"


async def test_s51_an_older_token_ends_when_the_newer_is_used(node: ParleyServer) -> None:
    client = str(uuid.uuid4())
    first = await token(node, client)
    async with opened(node) as made:
        second = given(await made.authenticate_token("ann", first, client, inline=wish()))
    async with opened(node) as made:  # the newer one may have been lost on the way (XEP-0484 s3.5)
        third = given(await made.authenticate_token("ann", first, client, inline=wish()))
    assert await refused(node, second, client) == "credentials-expired"
    async with opened(node) as made:
        await made.authenticate_token("ann", third, client)
    assert await refused(node, first, client) == "credentials-expired"


async def test_s51_a_token_ends_with_the_logout_of_its_client(node: ParleyServer) -> None:
    client = str(uuid.uuid4())
    text = await token(node, client)
    async with opened(node) as made:
        await made.authenticate_token("ann", text, client, uses=" invalidate='true'")
    assert await refused(node, text, client) == "credentials-expired"


async def test_s51_a_token_ends_with_the_device(node: ParleyServer) -> None:
    client = str(uuid.uuid4())
    text = await token(node, client)
    managed = f"<bind xmlns='{ns.BIND2}'><enable xmlns='{ns.STREAM_MANAGEMENT}' resume='true'/></bind>"
    async with opened(node) as live, opened(node) as lost, json(node) as call:
        success = await live.authenticate_token("ann", text, client, inline=managed)
        assert child(success, ns.BIND2, "bound") is not None
        _, listed = await call("GET", "/v1/devices")
        mine = [found for found in listed["devices"] if found["protocol"] == "xmpp" and found["software"] == "Test"]
        assert {found["name"] for found in mine} == {"Phone"}
        for found in mine:
            assert (await call("DELETE", f"/v1/devices/{found['id']}"))[0] == 204
        assert await live.expect_end() == "not-authorized"
        with pytest.raises(LoginFailed, match="credentials-expired"):
            await lost.authenticate_token("ann", text, client)


async def test_s51_a_device_that_is_away_cannot_resume_after_it_was_logged_out(make_node: MakeNode) -> None:
    node = make_node(["ann"])
    await node.start()
    client = str(uuid.uuid4())
    managed = f"<bind xmlns='{ns.BIND2}'><enable xmlns='{ns.STREAM_MANAGEMENT}' resume='true'/></bind>"
    async with opened(node) as away:
        await away.authenticate2("ann", "secret-ann", inline=agent(client) + managed)
        stream = away.sm_id
    await node.kill9()
    await node.start()  # the session is a row now
    async with json(node) as call:
        _, listed = await call("GET", "/v1/devices")
        [found] = [found for found in listed["devices"] if found["protocol"] == "xmpp"]
        assert (await call("DELETE", f"/v1/devices/{found['id']}"))[0] == 204
        assert [found["protocol"] for found in (await call("GET", "/v1/devices"))[1]["devices"]] == ["json"]
    async with opened(node) as again:
        resume = f"<resume xmlns='{ns.STREAM_MANAGEMENT}' previd='{stream}' h='0'/>"
        success = await again.authenticate2("ann", "secret-ann", inline=resume)
        assert child(success, ns.STREAM_MANAGEMENT, "resumed") is None


@pytest.mark.parametrize("face", ["xmpp", "json"])
async def test_s51_tokens_end_with_the_password(make_node: MakeNode, face: str) -> None:
    node = make_node(["ann"])
    await node.start()
    client = str(uuid.uuid4())
    text = await token(node, client)
    if face == "json":
        async with json(node) as call:
            change = {"password": "secret-ann", "new_password": "another secret"}
            assert (await call("PUT", "/v1/account/password", change))[0] == 200
    else:
        async with opened(node) as made:
            await made.authenticate("ann", "secret-ann")
            await made.bind()
            form = f"<query xmlns='{ns.REGISTER}'><username>ann</username><password>another secret</password></query>"
            assert (await made.request("set", form)).get("type") == "result"
    async with opened(node) as made:
        with pytest.raises(LoginFailed, match="credentials-expired"):
            await made.authenticate_token("ann", text, client)
        await made.authenticate2("ann", "another secret")


async def test_s51_tokens_are_slowed_like_passwords(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"limits": {"off_on_loopback": False}})
    await node.start()
    conditions = []
    for _ in range(40):
        async with opened(node) as made:
            with pytest.raises(LoginFailed) as failure:
                await made.authenticate_token("ann", "guess", str(uuid.uuid4()))
            conditions.append(str(failure.value))
    assert conditions[0] == "credentials-expired"
    assert conditions.count("temporary-auth-failure") >= 10


async def test_tokens_last_over_a_restart_and_are_replaced_when_they_are_due(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"tokens": {"login_lifetime": "2 seconds"}})
    await node.start()
    client = str(uuid.uuid4())
    text = await token(node, client)
    await node.kill9()
    await node.start()
    deadline = asyncio.get_running_loop().time() + 20
    while True:  # half of the time is over after a second; a slow start may take all of it
        async with opened(node) as made:
            try:
                success = await made.authenticate_token("ann", text, client)
            except LoginFailed:
                text = given(await made.authenticate2("ann", "secret-ann", inline=agent(client) + wish()))
                continue
            if child(success, ns.FAST, "token") is not None:
                break
        assert asyncio.get_running_loop().time() < deadline
    async with opened(node) as made:
        await made.authenticate_token("ann", given(success), client)


async def test_none_are_given_where_the_operator_wants_none(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"tokens": {"login_lifetime": "0 seconds"}})
    await node.start()
    async with opened(node) as made:
        offer = child(made.features, ns.SASL2, "authentication")
        assert offer is not None
        inline = child(offer, ns.SASL2, "inline")
        assert inline is not None
        assert list(children(inline, ns.FAST, "fast")) == []
