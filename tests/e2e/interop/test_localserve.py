"""The servers of `parley localserve`, talked to by slixmpp and by the JSON API in every combination."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import slixmpp
from slixmpp.exceptions import IqError

from tests.e2e.test_localserve import LocalServe
from tests.kit.json_device import JsonDevice
from tests.kit.server import Account, Endpoint
from tests.kit.slix import Slix

ANN, BOB = "ann@alpha.localhost", "bob@beta.localhost"


class Serving:
    """What a person reads off the screen."""

    def __init__(self, serving: LocalServe) -> None:
        found = re.search(r"^Certificate authority: (.*)$", serving.output, re.MULTILINE)
        assert found is not None
        self.ca_file = Path(found[1])
        self._base = serving.base
        self._passwords = dict(re.findall(r"^  (\S+@\S+) +password (\S+)$", serving.output, re.MULTILINE))

    def xmpp(self, jid: str, **options: bool) -> Slix:
        """slixmpp with STARTTLS."""
        endpoint = Endpoint("127.0.0.1", self._port(jid), jid.partition("@")[2], "starttls", self.ca_file)
        return Slix(endpoint, self._account(jid), **options)

    def json(self, jid: str) -> JsonDevice:
        """The JSON API."""
        return JsonDevice(f"https://127.0.0.1:{self._port(jid) + 2}", self.ca_file, self._account(jid))

    def _account(self, jid: str) -> Account:
        return Account(jid, self._passwords[jid])

    def _port(self, jid: str) -> int:
        return self._base + (10 if "beta" in jid else 0)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`localserve`, after the conversation it shows."""
    running = LocalServe(tmp_path_factory.mktemp("localserve"))
    try:
        yield Serving(running)
    finally:
        running.stop()


async def history(serving: Serving) -> list[list[str]]:
    """The conversation of both in both archives, read over both faces; equal archives give one list."""
    told: list[list[str]] = []
    for own, peer in ((ANN, BOB), (BOB, ANN)):
        async with serving.xmpp(own, presence=False) as xmpp, serving.json(own) as other:
            told += [await xmpp.texts(peer), await other.archive(peer)]
    return told


def told(page: JsonDevice) -> list[tuple[str, str]]:
    return [(event["text"], event["direction"]) for event in page.events]


async def drained(serving: Serving, *names: str) -> None:
    """Nothing waits for these any more."""
    for jid in names:
        async with serving.xmpp(jid) as client:
            await client.settled()
            client.plugin(198).send_ack()
            await client.settled()


async def checked(serving: Serving, before: list[list[str]], *texts: str) -> None:
    assert await history(serving) == [[*found, *texts] for found in before]


async def test_xmpp_there_and_json_here(serving: Serving) -> None:
    await drained(serving, ANN, BOB)
    before = await history(serving)
    async with serving.xmpp(ANN) as ann, serving.json(BOB) as bob:
        bob.events.clear()
        ann.say(BOB, "xj: hello")
        await bob.said("xj: hello")
        await bob.send(ANN, "xj: and back")
        await ann.said("xj: and back")
    await checked(serving, before, "xj: hello", "xj: and back")


async def test_json_there_and_xmpp_here(serving: Serving) -> None:
    await drained(serving, ANN, BOB)
    before = await history(serving)
    async with serving.json(ANN) as ann, serving.xmpp(BOB) as bob:
        await ann.send(BOB, "jx: hello")
        await bob.said("jx: hello")
        bob.say(ANN, "jx: and back")
        await ann.said("jx: and back")
    await checked(serving, before, "jx: hello", "jx: and back")


async def test_xmpp_on_both_sides(serving: Serving) -> None:
    await drained(serving, ANN, BOB)
    before = await history(serving)
    async with serving.xmpp(ANN) as ann, serving.xmpp(BOB) as bob:
        ann.say(BOB, "xx: hello")
        await bob.said("xx: hello")
        bob.say(ANN, "xx: and back")
        await ann.said("xx: and back")
    await checked(serving, before, "xx: hello", "xx: and back")


async def test_json_on_both_sides(serving: Serving) -> None:
    await drained(serving, ANN, BOB)
    before = await history(serving)
    async with serving.json(ANN) as ann, serving.json(BOB) as bob:
        await ann.send(BOB, "jj: hello")
        await bob.said("jj: hello")
        await bob.send(ANN, "jj: and back")
        await ann.said("jj: and back")
    await checked(serving, before, "jj: hello", "jj: and back")


async def test_json_and_xmpp_devices_of_one_account(serving: Serving) -> None:
    await drained(serving, ANN, BOB)
    before = await history(serving)
    async with serving.json(ANN) as page, serving.xmpp(ANN) as phone, serving.xmpp(BOB) as bob:
        bob.say(ANN, "both: to all")
        await page.said("both: to all")
        await phone.said("both: to all")
        phone.say(BOB, "both: from the phone")
        await page.send(BOB, "both: from the page")
        await bob.until(lambda: len(bob.bodies) == 2)
        assert sorted(bob.bodies) == ["both: from the page", "both: from the phone"]
        await phone.until(lambda: phone.copies)
        ((way, copy),) = phone.copies
        assert (way, str(copy["body"])) == ("sent", "both: from the page")
        order = bob.bodies
        await page.until(lambda: ("both: from the phone", "outgoing") in told(page))
    await checked(serving, before, "both: to all", *order)


async def test_presence_and_chat_states_between_xmpp_and_json(serving: Serving) -> None:
    await drained(serving, ANN, BOB)
    async with serving.xmpp(ANN) as ann:
        async with serving.xmpp(BOB) as bob:
            await ann.befriend(bob)
        async with serving.json(BOB) as page:
            jid = (await page.frame("ready"))["jid"]
            await page.show(show="away", status="in the browser")
            assert (await ann.sees(jid, "away"))["status"] == "in the browser"
            await page.frame("presence", available=True, **{"from": ann.jid})
            ann.xmpp.send_presence(pshow="dnd")
            await page.frame("presence", show="dnd", **{"from": ann.jid})
            message = ann.xmpp.make_message(mto=slixmpp.JID(jid), mtype="chat")
            message["chat_state"] = "composing"
            message.send()
            assert "composing" in str(await page.frame("typing"))
            with pytest.raises(IqError) as refused:  # it answers no IQ, so the server does
                await ann.plugin(199).send_ping(slixmpp.JID(jid), timeout=10)
            assert refused.value.condition == "service-unavailable"
        await ann.sees(jid, "unavailable")
