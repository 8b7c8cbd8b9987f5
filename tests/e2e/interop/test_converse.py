"""converse.js in headless Chromium, over WebSocket and over BOSH: login, contacts, messages, history after a reload,
resumption, upload, avatars, OMEMO between two browsers."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import slixmpp

from tests.kit.converse import CHROMIUM, Site, browser, served
from tests.kit.node import ParleyServer
from tests.kit.npm import installed
from tests.kit.slix import PLUGINS, Slix

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(420),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

WAYS = [("websocket", "ann"), ("bosh", "bob")]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(HERE / "converse.mjs", HERE / "npm" / "converse", tmp_path_factory.mktemp("npm"))


@pytest.fixture
async def site(driver: Path) -> AsyncIterator[Site]:
    async with served(driver) as made:
        yield made


def slix(node: ParleyServer, name: str, plugins: tuple[str, ...] = PLUGINS) -> Slix:
    return Slix(node.endpoint, next(found for found in node.accounts if found.local == name), plugins=plugins)


@pytest.mark.parametrize(("way", "name"), WAYS)
async def test_login_contacts_messages_and_history(
    site: Site, one: ParleyServer, two: ParleyServer, tmp_path: Path, way: str, name: str
) -> None:
    own, far = f"{name}@one.example", f"{name}@two.example"
    async with slix(two, name) as peer, browser(site, one, name, way, tmp_path) as page:
        await page.run(f"api.contacts.add({{ jid: '{far}' }}, true, true).then(() => null)")
        await peer.sees(own, "subscribe")
        peer.xmpp.send_presence(pto=own, ptype="subscribed")
        await page.until(f"(await api.contacts.get('{far}'))?.get('subscription') === 'to'")
        await page.until(f"(await api.contacts.get('{far}')).presence.getStatus() === 'online'")
        await page.say(far, f"from the page over {way}")
        await peer.said(f"from the page over {way}")
        peer.say(own, f"to the page over {way}")
        await page.shows(far, f"to the page over {way}")
        await page.reload()
        peer.say(own, f"after the reload over {way}")
        await page.shows(far, f"after the reload over {way}")
        await page.new_tab()
        assert await page.run(f"api.contacts.get('{far}').then((contact) => contact.get('subscription'))") == "to"
        await page.open(far)
        for part in ("from the page", "to the page", "after the reload"):
            assert (await page.shows(far, f"{part} over {way}"))["is_archived"]


@pytest.mark.parametrize(("way", "name"), [("websocket", "cat")])
async def test_a_file_is_uploaded(
    site: Site, one: ParleyServer, two: ParleyServer, tmp_path: Path, way: str, name: str
) -> None:
    """XEP-0363 from a page of another origin; the other side gets the address out of band and the content from there."""
    far = f"{name}@two.example"
    async with slix(two, name) as peer, browser(site, one, name, way, tmp_path) as page:
        await page.open(far)
        await page.chat(far, "chat.sendFiles([new File(['content of the file'], 'note.txt', { type: 'text/plain' })])")
        await peer.until(lambda: peer.bodies, "the address of a file")
        [url] = peer.bodies
        assert url.startswith(one.base_url), url
        assert url.endswith("/note.txt"), url
        context = ssl.create_default_context(cafile=two.authority.ca_file)
        async with asyncio.timeout(30), aiohttp.ClientSession() as http, http.get(url, ssl=context) as answer:
            assert answer.status == 200
            assert await answer.text() == "content of the file"


async def test_avatars_both_ways(site: Site, one: ParleyServer, two: ParleyServer, tmp_path: Path) -> None:
    """The page stores a vCard (XEP-0054), its contact publishes by PEP (XEP-0084): each sees the other's picture."""
    own, far = "fay@one.example", "fay@two.example"
    pictures = [b"\x89PNG\r\n\x1a\n" + word * 50 for word in (b"page", b"peer")]
    here, there = (base64.b64encode(picture).decode() for picture in pictures)
    plugins = (*PLUGINS, "xep_0054", "xep_0060", "xep_0084", "xep_0153", "xep_0163")
    async with slix(two, "fay", plugins) as peer, browser(site, one, "fay", "websocket", tmp_path) as page:
        await page.run(f"api.contacts.add({{ jid: '{far}' }}, true, true).then(() => null)")
        await peer.sees(own, "subscribe")
        peer.xmpp.send_presence(pto=own, ptype="subscribed")
        peer.xmpp.send_presence_subscription(pto=own, ptype="subscribe")
        # who asked for a subscription takes the one in return without asking the user
        await page.until(f"(await api.contacts.get('{far}'))?.get('subscription') === 'both'")
        await page.run(f"api.vcard.set('{own}', {{ image: '{here}', image_type: 'image/png' }}).then(() => null)")
        name = hashlib.sha1(pictures[0], usedforsecurity=False).hexdigest()
        await peer.until(lambda: any(name in str(found) for found in peer.presences), "presence with the avatar")
        card = await peer.plugin(54).get_vcard(slixmpp.JID(own), cached=False, timeout=30)
        assert card["vcard_temp"]["PHOTO"]["BINVAL"] == pictures[0]
        name = hashlib.sha1(pictures[1], usedforsecurity=False).hexdigest()
        await peer.plugin(84).publish_avatar(pictures[1], timeout=30)
        await peer.plugin(84).publish_avatar_metadata(
            [{"id": name, "type": "image/png", "bytes": len(pictures[1])}], timeout=30
        )
        await page.open(far)
        await page.until(f"_converse.state.vcards.get('{far}')?.get('image') === '{there}'")


async def test_omemo_between_two_browsers(site: Site, one: ParleyServer, two: ParleyServer, tmp_path: Path) -> None:
    """XEP-0384 over two domains: nothing that the servers see holds the text, both sides read it."""
    ann, bob = "dan@one.example", "eve@two.example"
    async with (
        browser(site, one, "dan", "websocket", tmp_path) as first,
        browser(site, two, "eve", "bosh", tmp_path) as second,
        slix(two, "eve") as watcher,
    ):
        await first.open(bob)
        await first.until(f"(await api.chats.get('{bob}')).get('omemo_supported')")
        await first.chat(bob, "chat.save('omemo_active', true)")
        await first.say(bob, "only for two")
        assert (await second.shows(ann, "only for two"))["is_encrypted"]
        await second.open(ann)
        await second.until(f"(await api.chats.get('{ann}')).get('omemo_supported')")
        await second.chat(ann, "chat.save('omemo_active', true)")
        await second.say(ann, "and back")
        assert (await first.shows(bob, "and back"))["is_encrypted"]
        await watcher.settled()
        assert not {"only for two", "and back"} & set(watcher.bodies)
