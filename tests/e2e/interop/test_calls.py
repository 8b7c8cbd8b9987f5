"""Calls: STUN and TURN servers with credentials that a TURN server believes (XEP-0215), and who rings (XEP-0353)."""

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from tests.e2e.conftest import MakeNode, MakePair
from tests.kit.client_stream import RawClient
from tests.kit.json_device import JsonDevice
from tests.kit.node import HOST, ParleyServer
from tests.kit.server import Account, free_port

SECRET = "what coturn and the homeserver share"
SERVICE = f"{{{ns.EXTERNAL_SERVICES}}}service"
BINDING = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
"""A STUN request."""


def turn(port: int) -> dict[str, dict[str, str | int | bool]]:
    """The configuration of one TURN server."""
    table: dict[str, str | int | bool] = {"type": "turn", "host": HOST, "port": port, "secret": SECRET}
    return {"[external_service]": table}


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str) -> AsyncIterator[RawClient]:
    """Logged in, with copies, and available."""
    made = RawClient(HOST, node.ports.xmpp, node.domain)
    try:
        await made.connect()
        await made.open()
        await made.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
        inline = f"<bind xmlns='{ns.BIND2}'><enable xmlns='{ns.CARBONS}'/></bind>"
        await made.authenticate2(name, f"secret-{name}", inline=inline)
        await made.send("<presence/>")
        await made.expect(lambda found: found.get("from") == made.jid)
        yield made
    finally:
        made.abort()


async def services(stream: RawClient, attributes: str = "") -> list[Element]:
    answer = await stream.request("get", f"<services xmlns='{ns.EXTERNAL_SERVICES}'{attributes}/>", stream.domain)
    assert answer.get("type") == "result"
    return answer[0].findall(SERVICE)


async def credentials(stream: RawClient, service: str, to: str = "") -> Element:
    payload = f"<credentials xmlns='{ns.EXTERNAL_SERVICES}'>{service}</credentials>"
    return await stream.request("get", payload, to or stream.domain)


def refusal(answer: Element) -> tuple[str, str]:
    error = answer.find(f"{{{ns.CLIENT}}}error")
    assert error is not None
    return error.get("type", ""), error[0].tag.rpartition("}")[2]


async def test_external_services_are_told_to_accounts_of_this_server_only(make_pair: MakePair) -> None:
    one, two = make_pair(["ann"], extra=turn(3478))
    await asyncio.gather(one.start(), two.start())
    async with client(one, "ann") as ann, client(two, "ann") as stranger:
        info = await ann.request("get", f"<query xmlns='{ns.DISCO_INFO}'/>", one.domain)
        features = {found.get("var") for found in info[0]}
        assert ns.EXTERNAL_SERVICES in features
        (found,) = await services(ann)
        given = {name: found.get(name) for name in ("type", "host", "port", "transport", "restricted")}
        assert given == {"type": "turn", "host": HOST, "port": "3478", "transport": "udp", "restricted": "true"}
        expires = datetime.fromisoformat(found.get("expires", ""))
        assert timedelta(hours=11) < expires - datetime.now(UTC) <= timedelta(hours=12)
        assert found.get("username", "").startswith(f"{int(expires.timestamp())}:")
        assert "ann" not in found.get("username", "")
        assert len(await services(ann, " type='turn'")) == 1
        assert await services(ann, " type='stun'") == []
        answer = await credentials(ann, f"<service host='{HOST}' type='turn' port='3478'/>")
        assert answer[0][0].get("password")
        for asked, expected in (
            (f"<service host='{HOST}' type='turn' port='1'/>", ("cancel", "item-not-found")),
            ("<service host='other.example' type='turn'/>", ("cancel", "item-not-found")),
            (f"<service host='{HOST}'/>", ("modify", "bad-request")),
            (f"<service host='{HOST}' type='turn' port='x'/>", ("modify", "bad-request")),
            ("", ("modify", "bad-request")),
        ):
            assert refusal(await credentials(ann, asked)) == expected, asked
        elsewhere = await credentials(stranger, f"<service host='{HOST}' type='turn'/>", one.domain)
        assert refusal(elsewhere) == ("auth", "forbidden")


def answers(port: int) -> bool:
    """Whether a STUN server is there; waits a moment for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.2)
        asker.sendto(BINDING, (HOST, port))
        try:
            return asker.recv(2) == b"\x01\x01"
        except (TimeoutError, ConnectionRefusedError):
            return False


@contextlib.asynccontextmanager
async def coturn(folder: Path, port: int) -> AsyncIterator[None]:
    """A real TURN server on the loopback address."""
    program = shutil.which("turnserver")
    if program is None or shutil.which("turnutils_uclient") is None:
        pytest.skip("coturn is not installed: credentials were not tried against a TURN server")
    running = await asyncio.create_subprocess_exec(
        program, "-n", f"--listening-ip={HOST}", f"--relay-ip={HOST}", "-p", str(port), "--realm=parley",
        "--use-auth-secret", f"--static-auth-secret={SECRET}", "--no-tls", "--no-dtls", "--no-cli",
        "--allow-loopback-peers", "--log-file=stdout", f"--pidfile={folder / 'pid'}", f"--userdb={folder / 'db'}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(answers, port):
                assert running.returncode is None
        yield
    finally:
        running.kill()
        await running.wait()


async def relays(port: int, username: str, password: str) -> bool:
    """Whether coturn's own client gets data through the relay with these credentials."""
    process = await asyncio.create_subprocess_exec(
        "turnutils_uclient", "-u", username, "-w", password, "-p", str(port), "-y", "-c", "-n", "2", "-m", "1", HOST,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode == 0 and b"Total lost packets 0 " in output


async def test_coturn_believes_the_credentials(make_node: MakeNode, tmp_path: Path) -> None:
    port = free_port(HOST)
    async with coturn(tmp_path, port):
        node = make_node(["ann"], extra=turn(port))
        await node.start()
        async with client(node, "ann") as ann:
            (found,) = await services(ann)
        username, password = found.get("username", ""), found.get("password", "")
        assert await relays(port, username, password)
        assert not await relays(port, username.replace(":", "0:"), password)
        account = Account(f"ann@{node.domain}", "secret-ann")
        async with JsonDevice(node.base_url, node.authority.ca_file, account) as device:
            answer = await device.call("GET", "/v1/calls/ice-servers")
        (server,) = answer["ice_servers"]
        assert server["urls"] == [f"turn:{HOST}:{port}?transport=udp"]
        assert server["username"].startswith(f"{answer['expires_at']}:")
        assert await relays(port, server["username"], server["credential"])


def signal(name: str) -> str:
    return f"<{name} xmlns='{ns.JINGLE_MESSAGE}' id='c1'/><store xmlns='{ns.HINTS}'/>"


async def rings(stream: RawClient, name: str, wrapper: str = "") -> None:
    """Wait for the signal; in a copy ("sent", "received") or for the session itself."""
    wanted = f"{{{ns.JINGLE_MESSAGE}}}{name}"
    path = f"{{{ns.CARBONS}}}{wrapper}/{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message/{wanted}" if wrapper else wanted
    await stream.expect(lambda found: found.find(path) is not None)


async def archived(stream: RawClient) -> list[str]:
    """The signals in the archive, in order."""
    await stream.send(f"<iq type='set' id='mam'><query xmlns='{ns.ARCHIVE}'/></iq>")
    found: list[str] = []
    while True:
        stanza = await stream.recv_stanza()
        if stanza.tag.endswith("}iq"):
            return found
        result = stanza.find(f"{{{ns.ARCHIVE}}}result")
        for part in result.iter() if result is not None else ():
            if part.tag.startswith("{" + ns.JINGLE_MESSAGE + "}"):
                found.append(part.tag.rpartition("}")[2])


async def test_a_call_rings_everywhere_and_every_device_learns_its_end(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with (
        client(node, "ann") as ann,
        client(node, "ann") as desk,
        client(node, "bob") as phone,
        client(node, "bob") as tablet,
    ):

        async def send(stream: RawClient, to: str, name: str) -> None:
            await stream.send(f"<message to='{to}' type='chat'>{signal(name)}</message>")

        await send(ann, f"bob@{node.domain}", "propose")
        await rings(phone, "propose")
        await rings(tablet, "propose")
        await rings(desk, "propose", "sent")
        await send(phone, ann.jid, "ringing")
        await rings(ann, "ringing")
        await send(phone, ann.jid, "proceed")
        await rings(ann, "proceed")
        await rings(desk, "proceed", "received")
        await rings(tablet, "proceed", "sent")
        await send(ann, phone.jid, "finish")
        await rings(phone, "finish")
        await rings(tablet, "finish", "received")
        await rings(desk, "finish", "sent")
        for stream in (desk, tablet):
            assert await archived(stream) == ["propose", "ringing", "proceed", "finish"]
