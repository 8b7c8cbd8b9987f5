"""`parley live`: the WebSocket of the JSON API on the terminal, to look at its frames."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click


@click.command()
@click.argument("url")
@click.option("--login", required=True, help="ADDRESS:PASSWORD")
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="PEM file of the authority to trust.")
def live(url: str, login: str, ca: Path | None) -> None:
    """Print the frames of the WebSocket at URL; a line `ADDRESS TEXT` on standard input is sent as a message."""
    parts = urlsplit(url)
    if parts.scheme != "wss":
        raise click.UsageError('the URL begins with "wss://"')
    username, _, password = login.partition(":")
    try:
        asyncio.run(_live(url, f"https://{parts.netloc}", {"username": username, "password": password}, ca))
    except aiohttp.ClientError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo()


async def _live(url: str, base: str, login: dict[str, str], ca: Path | None) -> None:
    trust = ssl.create_default_context(cafile=ca)
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/v1/sessions", json=login, ssl=trust) as answer:
            document = await answer.json(content_type=None)
            if answer.status >= 300:
                raise click.ClickException(f"login refused: {document.get('detail') or document.get('title')}")
        headers = {"Authorization": f"Bearer {document['access_token']}"}
        async with session.ws_connect(url, ssl=trust, headers=headers) as socket:
            sending = asyncio.create_task(_send_lines(socket))
            try:
                async for frame in socket:
                    click.echo(frame.data)
            finally:
                sending.cancel()


async def _send_lines(socket: aiohttp.ClientWebSocketResponse) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode(errors="replace").strip():
        to, _, text = line.partition(" ")
        frame = {"type": "send", "client_id": uuid.uuid4().hex, "to": to, "text": text}
        await socket.send_str(json.dumps(frame))
