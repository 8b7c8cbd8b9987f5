"""The lines of the README that a reader copies do what it says."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.kit.node import ParleyServer

README = Path(__file__).parents[2] / "README.md"
LINES = re.findall(r"^    (curl .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)


async def run(line: str, node: ParleyServer, **variables: str) -> Any:
    """What a line answers when it is given to a shell, with our server in the place of the one from localserve."""
    line = line.replace("https://127.0.0.1:15222", node.base_url).replace("beta.localhost", node.domain)
    environment = {**os.environ, "CA": str(node.authority.ca_file), **variables}
    shell = await asyncio.create_subprocess_shell(
        line.replace("curl ", "curl --silent --show-error --fail-with-body ", 1),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await shell.communicate()
    assert shell.returncode == 0, output.decode()
    return json.loads(output)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_a_login_a_message_and_what_there_is(node: ParleyServer) -> None:
    login, send, sync = LINES
    token = (await run(login, node, PASSWORD=node.accounts[0].password))["access_token"]
    first, again = [await run(send, node, TOKEN=token) for _ in range(2)]
    assert first == again
    events = (await run(sync, node, TOKEN=token))["events"]
    assert [(event["position"], event["event"]["text"]) for event in events] == [(first["message_id"], "hello")]
