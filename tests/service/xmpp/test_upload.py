"""Slots for uploads over XMPP (XEP-0363)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import pytest

from config.feature_settings import UploadSettings
from homeserver import wiring
from homeserver.domain.errors import NotFound
from homeserver.protocol.jid import JID
from homeserver.services.contents import Contents
from homeserver.services.enquiries import Enquiries
from homeserver.services.files import Files
from homeserver.storage.blobs import Blobs
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.feature import Addressee, collect
from homeserver.xmpp.upload import Upload
from tests.kit.fakes import FakeSession, stanza
from tests.kit.world import World

UPLOAD = "{urn:xmpp:http:upload:0}"
INFO = "{http://jabber.org/protocol/disco#info}"
DATA = "{jabber:x:data}"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
SERVICE = "upload.a.example"
SETTINGS = UploadSettings(max_bytes=1000, account_bytes=5000, account_daily_bytes=2000, slots_per_account=3, reserve=0)


@dataclass
class Service:
    """A server with an upload service."""

    world: World
    files: Files
    dispatcher: Dispatcher

    async def ask(self, session: FakeSession, payload: str, kind: str = "get", to: str = SERVICE) -> Element:
        """The service's answer to an IQ."""
        session.take()
        self.world.dispatcher.iq(
            session, stanza(f"<iq type='{kind}' id='s' to='{to}'>{payload}</iq>", session.jid), None
        )
        await self._settled()
        (answer,) = session.take()
        assert (answer.get("from"), answer.get("id")) == (to, "s")
        return answer

    async def slot(self, session: FakeSession, attributes: str, content: str = "") -> Element:
        return await self.ask(session, f"<request xmlns='{UPLOAD[1:-1]}' {attributes}>{content}</request>")

    async def remote(self, sender: str, payload: str) -> None:
        text = f"<iq type='get' id='s' to='{SERVICE}'>{payload}</iq>"
        self.world.router.route(stanza(text, JID.parse(sender)))
        await self._settled()

    async def _settled(self) -> None:
        while self.dispatcher._background:
            await asyncio.gather(*self.dispatcher._background)


@pytest.fixture
async def service(server: World, tmp_path: Path) -> AsyncIterator[Service]:
    contents = Contents(Blobs(tmp_path / "uploads"))
    files = Files(server.database, contents, server.accounts, SETTINGS, server.clock, "https://files.a.example/")
    await files.start()
    features = wiring.build([Upload], [server.accounts, files, server.router])
    own = server.router.on_local
    handlers = collect(features)
    dispatcher = Dispatcher(
        handlers,
        server.accounts,
        server.sessions,
        server.router,
        server.messaging,
        Enquiries(server.router),
        server.privacy,
    )
    server.router.on_local = own
    dispatcher.serve(SERVICE, Addressee.UPLOAD)
    yield Service(server, files, dispatcher)
    await files.close()


def error(answer: Element) -> tuple[str, str]:
    """Condition and type."""
    found = answer.find("{jabber:client}error")
    assert found is not None, answer
    return found[0].tag.removeprefix(STANZAS), found.get("type", "")


async def test_what_the_service_says_it_is(service: Service) -> None:
    alice = await service.world.session("alice")
    answer = await service.ask(alice, f"<query xmlns='{INFO[1:-1]}'/>")
    identity = answer.find(f".//{INFO}identity")
    assert identity is not None
    assert (identity.get("category"), identity.get("type")) == ("store", "file")
    features = {found.get("var") for found in answer.iter(f"{INFO}feature")}
    assert features >= {"urn:xmpp:http:upload:0", "urn:xmpp:http:upload:purpose:0#ephemeral"}
    fields = {found.get("var"): found.findtext(f"{DATA}value") for found in answer.iter(f"{DATA}field")}
    assert fields == {"FORM_TYPE": "urn:xmpp:http:upload:0", "max-file-size": "1000"}
    items = await service.ask(alice, "<query xmlns='http://jabber.org/protocol/disco#items'/>")
    assert (items.get("type"), len(items[0])) == ("result", 0)
    for name in ("info", "items"):
        refused = await service.ask(alice, f"<query xmlns='http://jabber.org/protocol/disco#{name}' node='x'/>")
        assert error(refused) == ("item-not-found", "cancel")


async def test_a_slot(service: Service) -> None:
    alice = await service.world.session("alice")
    answer = await service.slot(alice, "filename='très cool.jpg' size='234' content-type='image/jpeg'")
    put, get = answer.find(f"{UPLOAD}slot/{UPLOAD}put"), answer.find(f"{UPLOAD}slot/{UPLOAD}get")
    assert put is not None
    assert get is not None
    url = put.get("url", "")
    assert url == get.get("url")
    assert url.startswith("https://files.a.example/files/")
    assert url.endswith("/tr%C3%A8s%20cool.jpg")
    (header,) = put
    assert header.get("name") == "Authorization"
    assert (header.text or "").startswith("Bearer ")
    assert "\n" not in (header.text or "")
    _, _, id_, name = urlsplit(url).path.split("/")
    upload = await service.files.begin(id_, "très cool.jpg", (header.text or "")[7:], 234, "image/jpeg")
    await upload.write([bytes(234)])
    assert (await upload.finish()).type == "image/jpeg"
    assert name == "tr%C3%A8s%20cool.jpg"


@pytest.mark.parametrize(
    "attributes",
    [
        "size='1'",
        "filename='' size='1'",
        "filename='a'",
        "filename='a' size=''",
        "filename='a' size='0'",
        "filename='a' size='000'",
        "filename='a' size='-1'",
        "filename='a' size='1.5'",
        "filename='a' size='0x10'",
        "filename='a' size='\u0661'",
        "filename='a' size='1' content-type='not a type'",
        f"filename='{'a' * 2000}' size='1'",
    ],
)
async def test_requests_that_cannot_be_understood(service: Service, attributes: str) -> None:
    alice = await service.world.session("alice")
    assert error(await service.slot(alice, attributes)) == ("bad-request", "modify")


@pytest.mark.parametrize("size", ["1001", "99999999999999999999", "9" * 1000])
async def test_s125_too_large(service: Service, size: str) -> None:
    """XEP-0363 s6, example 11."""
    alice = await service.world.session("alice")
    answer = await service.slot(alice, f"filename='a' size='{size}'")
    assert error(answer) == ("not-acceptable", "modify")
    assert answer.findtext(f".//{UPLOAD}file-too-large/{UPLOAD}max-file-size") == "1000"


async def test_s126_a_quota_says_when_to_come_back(service: Service) -> None:
    """XEP-0363 s6, example 12."""
    alice, bob = await service.world.session("alice"), await service.world.session("bob")
    for _ in range(2):
        assert (await service.slot(alice, "filename='a' size='1000'")).get("type") == "result"
    answer = await service.slot(alice, "filename='a' size='1'")
    assert error(answer) == ("resource-constraint", "wait")
    retry = answer.find(f".//{UPLOAD}retry")
    assert retry is not None
    assert retry.get("stamp", "").endswith("Z")
    assert (await service.slot(bob, "filename='a' size='1000'")).get("type") == "result"
    for _ in range(2):
        await service.slot(bob, "filename='a' size='1'")
    assert error(await service.slot(bob, "filename='a' size='1'")) == ("resource-constraint", "wait")


async def test_only_accounts_of_this_server_upload(service: Service) -> None:
    """XEP-0363 s6, example 13."""
    alice = await service.world.session("alice")
    await service.world.accounts.disable("alice@a.example")
    assert error(await service.slot(alice, "filename='a' size='1'")) == ("forbidden", "auth")
    await service.remote("romeo@far.example/x", f"<request xmlns='{UPLOAD[1:-1]}' filename='a' size='1'/>")
    ((destination, sent),) = service.world.outbox.passing
    assert destination == "far.example"
    assert error(sent) == ("forbidden", "auth")


async def test_other_requests_and_addresses(service: Service) -> None:
    alice = await service.world.session("alice")
    request = f"<request xmlns='{UPLOAD[1:-1]}' filename='a' size='1'/>"
    assert error(await service.ask(alice, request, "set")) == ("service-unavailable", "cancel")
    assert error(await service.ask(alice, "<query xmlns='jabber:iq:last'/>")) == ("service-unavailable", "cancel")
    for to in (f"someone@{SERVICE}", f"{SERVICE}/x"):
        assert error(await service.ask(alice, request, to=to)) == ("service-unavailable", "cancel")


async def test_purposes(service: Service) -> None:
    """XEP-0363 s5: a file is never there after `expire-before`; what is unknown means a message."""
    alice = await service.world.session("alice")
    purpose = "urn:xmpp:http:upload:purpose:0"
    for content in (f"<message xmlns='{purpose}'/>", "<what xmlns='urn:example:other'/>"):
        answer = await service.slot(alice, "filename='a' size='1'", content)
        assert answer.get("type") == "result"
    for stamp in ("", "soon", "2001-01-01T00:00:00Z", "9999999-01-01T00:00:00Z"):
        answer = await service.slot(
            alice, "filename='a' size='1'", f"<ephemeral xmlns='{purpose}' expire-before='{stamp}'/>"
        )
        assert error(answer) == ("bad-request", "modify")
    later = "2025-11-20T01:53:20Z"  # an hour after the clock of the test
    answer = await service.slot(
        alice, "filename='a' size='1'", f"<ephemeral xmlns='{purpose}' expire-before='{later}'/>"
    )
    put = answer.find(f".//{UPLOAD}put")
    assert put is not None
    upload = await service.files.begin(
        urlsplit(put.get("url", "")).path.split("/")[2], "a", (put[0].text or "")[7:], 1, None
    )
    await upload.write([b"x"])
    made = await upload.finish()
    assert await service.files.find(made.id, "a") == made
    assert (service.files.lifetime(made) or 0) <= 3600
    service.world.clock.advance(3600)
    with pytest.raises(NotFound):
        await service.files.find(made.id, "a")
