"""OMEMO (XEP-0384) of profanity: keys published where others find them, encrypted messages between two of them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import slixmpp

from tests.e2e.interop.test_programs import needs_profanity, profanity
from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix
from tests.kit.terminal import Terminal

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300), needs_profanity]

LIST = "eu.siacs.conversations.axolotl.devicelist"
BUNDLE = "eu.siacs.conversations.axolotl.bundles"
PATIENCE = 90.0


async def items(client: Slix, jid: str, node: str) -> list[Any]:
    """The payloads of a node, asked for as any other client does."""
    answer = await client.plugin(60).get_items(slixmpp.JID(jid), node, timeout=30)
    return [item["payload"] for item in answer["pubsub"]["items"]]


async def with_keys(screen: Terminal, jid: str, other: Slix) -> None:
    """Make keys; wait until another client finds the device in the list and its bundle with pre-keys."""
    screen.type("/omemo trustmode blind")
    screen.type("/omemo gen")
    await screen.shows("Going to publish own device ID", PATIENCE)
    await screen.shows(f"Blind trust for {jid}", PATIENCE)  # its list came back to it
    [[device]] = await items(other, jid, LIST)
    [bundle] = await items(other, jid, f"{BUNDLE}:{device.get('id')}")
    assert len(bundle.findall(".//{*}preKeyPublic")) >= 20
    screen.forget()


async def logged(log: Path, words: str) -> None:
    """Wait until a program has written something to its log: it shows nothing of lists and sessions."""
    async with asyncio.timeout(PATIENCE):
        while not any(words in found.read_text(errors="replace") for found in log.parent.glob(log.name + "*")):
            await asyncio.sleep(0.1)


async def test_encrypted_between_two_of_them(one: ParleyServer, two: ParleyServer, tmp_path: Path) -> None:
    account = next(found for found in two.accounts if found.local == "bob")
    async with (
        Slix(two.endpoint, account, plugins=(*PLUGINS, "xep_0060")) as other,
        profanity(one, "ann", tmp_path / "ann") as ann,
        profanity(two, "bob", tmp_path / "bob") as bob,
    ):
        await with_keys(ann, "ann@one.example", other)
        await with_keys(bob, "bob@two.example", other)
        ann.type("/omemo start bob@two.example")
        await logged(tmp_path / "ann" / "log", "create session with bob@two.example")
        ann.type("feldspar-one")
        bob.type("/msg ann@one.example")
        await bob.shows("feldspar-one", PATIENCE)
        bob.type("/omemo start")
        await logged(tmp_path / "bob" / "log", "Setting device list for ann@one.example")
        ann.forget()
        bob.type("granite-two")
        await ann.shows("granite-two", PATIENCE)
        await other.until(lambda: other.messages, "a copy of what bob gets")
        assert "feldspar-one" not in str(other.messages)
        assert "granite-two" not in str(other.copies)
