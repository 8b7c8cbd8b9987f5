"""OMEMO (XEP-0384) of slixmpp over two domains: device lists and bundles by PEP, catching up from the archive."""

import asyncio
from pathlib import Path

import pytest

from tests.kit.node import ParleyServer
from tests.kit.omemo import omemo_device, omemo_python
from tests.kit.slix import Slix

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return omemo_python(tmp_path_factory.mktemp("omemo") / "environment")


async def test_messages_both_ways_and_while_one_is_away(
    python: Path, one: ParleyServer, two: ParleyServer, tmp_path: Path
) -> None:
    ann, bob = "ann@one.example", "bob@two.example"
    async with omemo_device(python, one, "ann", tmp_path) as first:
        async with omemo_device(python, two, "bob", tmp_path) as second:
            await first.send(bob, "first words")
            assert (await second.tells("message"))["text"] == "first words"
            await second.send(ann, "an answer")
            assert (await first.tells("message"))["text"] == "an answer"
        await first.send(bob, "while away")
        await first.send(bob, "still away")
        async with omemo_device(python, two, "bob", tmp_path) as second:
            for text in ("while away", "still away"):
                await second.tells("message", text=text, sender=ann)


async def test_a_device_that_was_never_available_reads_the_archive(
    python: Path, one: ParleyServer, two: ParleyServer, tmp_path: Path
) -> None:
    """What another device has taken from the offline store is read from the archive (XEP-0313), with the keys of this one."""
    ann, cat = "ann@two.example", "cat@one.example"
    account = next(found for found in one.accounts if found.jid == cat)
    async with omemo_device(python, one, "cat", tmp_path):
        pass
    async with omemo_device(python, two, "ann", tmp_path) as sender, Slix(one.endpoint, account) as plain:
        await sender.send(cat, "for the archive")
        async with asyncio.timeout(30):
            await plain.until(lambda: plain.messages)
        assert "for the archive" not in str(plain.messages[0])
        assert "for the archive" not in "".join(map(str, await plain.history(ann)))
    async with omemo_device(python, one, "cat", tmp_path) as reader:
        reader.order("history", **{"with": ann})
        await reader.tells("message", text="for the archive", sender=ann)
