"""`parley check --login` against a real node."""

import re

from tests.e2e.conftest import MakeNode
from tests.kit.node import ParleyServer


async def check(node: ParleyServer, password: str, *options: str) -> tuple[bool, list[str]]:
    """Whether all is well, and the lines about logins."""
    words = ["check", "--offline", "--login", node.accounts[0].jid, "--password-stdin", *options]
    try:
        output, fine = await node.run_command(*words, stdin=password + "\n"), True
    except RuntimeError as error:
        output, fine = str(error), False
    assert "Traceback" not in output
    return fine, re.findall(r"^.* login: .*$", output, re.MULTILINE)


async def test_every_endpoint_lets_a_client_in(make_node: MakeNode) -> None:
    node = make_node(["ann"])
    await node.start()
    ports, right = node.ports, node.accounts[0].password
    trusted = ("--ca", str(node.authority.ca_file))
    fine, lines = await check(node, right, *trusted)
    assert fine, lines
    ways = [line.split("login: ")[1].split(": ann")[0] for line in lines]
    assert ways == [
        f"xmpp 127.0.0.1:{ports.xmpp}",
        f"xmpp 127.0.0.1:{ports.required}",
        f"xmpps 127.0.0.1:{ports.xmpps}",
        f"websocket wss://127.0.0.1:{ports.https}/xmpp-websocket",
        f"json https://127.0.0.1:{ports.https}",
    ]
    fine, lines = await check(node, "not the password", *trusted)
    assert not fine
    assert len(lines) == 5
    assert all(line.startswith("bad") and f"`parley account password {node.accounts[0].jid}`" in line for line in lines)
    fine, lines = await check(node, right)
    assert not fine
    assert len(lines) == 5
    assert all("the certificate is not accepted" in line and "--ca" in line for line in lines), lines
    await node.stop()
    fine, lines = await check(node, right, *trusted)
    assert not fine
    assert len(lines) == 5
    assert all("see that the server runs" in line for line in lines), lines
