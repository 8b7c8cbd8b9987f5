"""vCards and avatars through the dispatcher (XEP-0054, XEP-0292, XEP-0084, XEP-0153, XEP-0398)."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from config.feature_settings import ProfileSettings
from homeserver.protocol import namespaces as ns
from homeserver.storage import vcards as storage
from tests.kit.fakes import FakeSession
from tests.kit.pubsub import ask, configure, done, from_afar, publish, said
from tests.kit.world import World, world

V = "{vcard-temp}"
F = f"{{{ns.VCARD4}}}"
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
OTHER = b"GIF89a" + b"another"
ALICE = "alice@a.example"
GET = "<vCard xmlns='vcard-temp'/>"
METADATA, DATA = ns.AVATAR_METADATA, ns.AVATAR_DATA


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def vcard(content: str) -> str:
    return f"<vCard xmlns='vcard-temp'>{content}</vCard>"


def photo(data: bytes, kind: str = "image/png") -> str:
    return f"<PHOTO><TYPE>{kind}</TYPE><BINVAL>\n{base64.encodebytes(data).decode()}\n</BINVAL></PHOTO>"


async def show(server: World, who: FakeSession, to: str = "") -> Element:
    target = f" to='{to}'" if to else ""
    return await server.iq(who, f"<iq type='get' id='v'{target}>{GET}</iq>")


async def change(server: World, who: FakeSession, content: str, to: str = "") -> str:
    target = f" to='{to}'" if to else ""
    return said(await server.iq(who, f"<iq type='set' id='v'{target}>{vcard(content)}</iq>"))


def texts(answer: Element) -> dict[str, str]:
    return {part.tag.removeprefix(V): "".join(part.itertext()) for part in answer[0]}


async def publish_avatar(server: World, who: FakeSession, data: bytes, id_: str = "", **options: object) -> None:
    id_ = id_ or sha1(data)
    content = f"<data xmlns='{DATA}'>{base64.b64encode(data).decode()}</data>"
    await done(server, who, publish(DATA, id_, content, **options))
    info = f"<info bytes='{len(data)}' id='{id_}' type='image/png'/>"
    linked = "<info bytes='1' id='0' type='image/png' url='https://example.org/a.png'/>"
    await done(
        server, who, publish(METADATA, id_, f"<metadata xmlns='{METADATA}'>{linked}{info}</metadata>", **options)
    )


async def items(server: World, who: FakeSession, node: str, to: str = "") -> list[Element]:
    answer = await ask(server, who, "get", f"<items node='{node}'/>", to)
    return [item[0] for item in answer.iter(f"{{{ns.PUBSUB}}}item")]


@pytest.fixture
async def alice(server: World) -> FakeSession:
    return await server.online("alice")


@pytest.fixture
async def bob(server: World) -> FakeSession:
    return await server.online("bob")


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "p.db", profile_settings=ProfileSettings(avatar_bytes=8192, vcard_bytes=1024)) as found:
        yield found


def photo_hash(element: Element) -> str | None:
    """The avatar that a presence names; None where it names nothing."""
    update = element.find(f"{{{ns.VCARD_UPDATE}}}x")
    found = None if update is None else update.find(f"{{{ns.VCARD_UPDATE}}}photo")
    return None if found is None else found.text or ""


# --- vcard-temp ---------------------------------------------------------------------------------------------------------


async def test_an_account_keeps_a_vcard_that_others_see(server: World, alice: FakeSession, bob: FakeSession) -> None:
    assert texts(await show(server, alice)) == {}
    assert await change(server, alice, "<FN>Alice</FN><GEO><LAT>1</LAT></GEO>") == "result"
    for answer in (await show(server, alice), await show(server, bob, ALICE), await show(server, alice, ALICE)):
        assert texts(answer) == {"FN": "Alice", "GEO": "1"}
    assert await change(server, alice, "<FN>Bob</FN>") == "result"
    assert texts(await show(server, bob, ALICE)) == {"FN": "Bob"}


async def test_s69_nobody_learns_who_exists_or_changes_another(
    server: World, alice: FakeSession, bob: FakeSession
) -> None:
    """S-69: an empty account, none at all, and one that keeps its vCard to itself are answered alike."""
    assert await change(server, alice, "<FN>Alice</FN>") == "result"
    await done(server, alice, configure(ns.VCARD4_NODE, access_model="whitelist"), owner=True)
    refused = "service-unavailable/cancel"
    stranger = await server.session("carol")
    for jid in (ALICE, "bob@a.example", "nobody@a.example"):
        assert said(await show(server, stranger, jid)) == refused
        assert await change(server, stranger, "<FN>x</FN>", jid) == refused
    assert await change(server, bob, "<FN>x</FN>", "a.example") == "forbidden/auth"
    assert texts(await show(server, alice)) == {"FN": "Alice"}


async def test_a_contact_elsewhere_sees_it(server: World, alice: FakeSession) -> None:
    await change(server, alice, "<FN>Alice</FN>" + photo(PNG))
    await server.remote("eve@far.example/x", f"<iq type='get' id='v' to='{ALICE}'>{GET}</iq>")
    answer = server.outbox.passing[-1][1]
    assert texts(answer)["FN"] == "Alice"
    assert "PHOTO" in texts(answer)


async def test_who_is_blocked_sees_nothing(server: World, alice: FakeSession, bob: FakeSession) -> None:
    await change(server, alice, "<FN>Alice</FN>" + photo(PNG))
    await server.iq(
        alice, f"<iq type='set' id='b'><block xmlns='{ns.BLOCKING}'><item jid='bob@a.example'/></block></iq>"
    )
    assert said(await show(server, bob, ALICE)) == "service-unavailable/cancel"


async def test_the_domain_has_a_vcard(server: World, alice: FakeSession) -> None:
    assert texts(await show(server, alice, "a.example"))["FN"] == "a.example"


async def test_vcards_have_a_size(small: World) -> None:
    alice = await small.session("alice")
    assert await change(small, alice, f"<NOTE>{'x' * 2000}</NOTE>") == "policy-violation/modify"
    assert await change(small, alice, photo(PNG + b"x" * 9000)) == "policy-violation/modify"
    assert texts(await show(small, alice)) == {}
    assert await change(small, alice, photo(PNG + b"x" * 7000)) == "result"


async def test_a_deleted_account_leaves_no_vcard(server: World, alice: FakeSession, bob: FakeSession) -> None:
    await change(server, alice, "<FN>Alice</FN>" + photo(PNG))
    await server.accounts.delete(alice.account.jid.bare)
    await server.profiles.profiles.settle()
    assert await server.database.read(storage.of, alice.account.id) is None
    assert said(await show(server, bob, ALICE)) == "service-unavailable/cancel"


# --- vCard4 -------------------------------------------------------------------------------------------------------------


async def test_both_shapes_say_the_same(server: World, alice: FakeSession, bob: FakeSession) -> None:
    await change(server, alice, "<FN>Alice</FN><EMAIL><USERID>a@example.org</USERID></EMAIL><GEO><LAT>1</LAT></GEO>")
    [four] = await items(server, bob, ns.VCARD4_NODE, ALICE)
    assert ["".join(part.itertext()) for part in four] == ["Alice", "a@example.org"]
    newer = f"<vcard xmlns='{ns.VCARD4}'><fn><text>Al</text></fn><gender><sex><text>F</text></sex></gender></vcard>"
    await done(server, alice, publish(ns.VCARD4_NODE, "current", newer))
    assert texts(await show(server, bob, ALICE)) == {"FN": "Al", "GEO": "1"}
    await change(server, alice, "<FN>Alice</FN>")
    [four] = await items(server, bob, ns.VCARD4_NODE, ALICE)
    assert [part.tag for part in four] == [f"{F}fn", f"{F}gender"]


async def test_who_may_not_read_one_shape_may_not_read_the_other(
    server: World, alice: FakeSession, bob: FakeSession
) -> None:
    newer = f"<vcard xmlns='{ns.VCARD4}'><fn><text>Al</text></fn></vcard>"
    await done(server, alice, publish(ns.VCARD4_NODE, "current", newer))
    assert said(await show(server, bob, ALICE)) == "service-unavailable/cancel"
    await server.befriend("alice", "bob")
    assert texts(await show(server, bob, ALICE)) == {"FN": "Al"}


# --- avatars ------------------------------------------------------------------------------------------------------------


async def test_a_published_avatar_is_in_the_vcard(server: World, alice: FakeSession, bob: FakeSession) -> None:
    await publish_avatar(server, alice, PNG, access_model="open")
    answer = await show(server, bob, ALICE)
    found = answer.find(f"{V}vCard/{V}PHOTO")
    assert found is not None
    assert found.findtext(f"{V}TYPE") == "image/png"
    assert base64.b64decode(found.findtext(f"{V}BINVAL") or "") == PNG
    await change(server, alice, "<FN>A</FN>")
    assert "PHOTO" not in texts(await show(server, bob, ALICE))
    [metadata] = await items(server, bob, METADATA, ALICE)
    assert len(metadata) == 0


async def test_the_picture_of_a_vcard_is_published(server: World, alice: FakeSession, bob: FakeSession) -> None:
    assert await change(server, alice, "<FN>A</FN>" + photo(OTHER, "image/lies")) == "result"
    [metadata] = await items(server, bob, METADATA, ALICE)
    info = metadata[0]
    assert dict(info.items()) == {"bytes": str(len(OTHER)), "id": sha1(OTHER), "type": "image/gif"}
    [data] = await items(server, bob, DATA, ALICE)
    assert base64.b64decode(data.text or "") == OTHER
    assert await server.database.read(storage.of, alice.account.id) == b"<vCard xmlns='vcard-temp'><FN>A</FN></vCard>"


async def test_the_same_picture_is_not_published_again(server: World, alice: FakeSession) -> None:
    await change(server, alice, photo(PNG))
    events: list[str] = []
    server.pubsub.on_event.append(lambda event: events.append(event.node))
    await change(server, alice, "<FN>A</FN>" + photo(PNG))
    assert events == [ns.VCARD4_NODE]


@pytest.mark.parametrize("data", [b"<svg/>", b"%PDF-1.7", b"RIFFxxxxWAVE"])
async def test_s127_what_is_no_picture_is_refused(server: World, alice: FakeSession, data: bytes) -> None:
    assert await change(server, alice, photo(data)) == "not-acceptable/modify"
    assert texts(await show(server, alice)) == {}


async def test_s127_a_published_avatar_that_is_none_is_in_no_vcard(
    server: World, alice: FakeSession, bob: FakeSession
) -> None:
    await publish_avatar(server, alice, b"<html><script>", access_model="open")
    assert said(await show(server, bob, ALICE)) == "service-unavailable/cancel"
    await publish_avatar(server, alice, PNG, sha1(OTHER), access_model="open")
    assert said(await show(server, bob, ALICE)) == "service-unavailable/cancel"


async def test_an_avatar_for_contacts_is_in_the_vcard_for_contacts(server: World, alice: FakeSession) -> None:
    bob, carol = await server.online("bob"), await server.online("carol")
    await server.befriend("alice", "bob")
    await publish_avatar(server, alice, PNG)
    assert "PHOTO" in texts(await show(server, bob, ALICE))
    assert said(await show(server, carol, ALICE)) == "service-unavailable/cancel"


# --- presence -----------------------------------------------------------------------------------------------------------


async def test_presence_names_the_avatar(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await server.befriend("alice", "bob")
    bob.take()
    assert await change(server, alice, photo(PNG)) == "result"
    assert photo_hash(bob.take()[-1]) == sha1(PNG)
    await server.send(alice, "<presence><status>hi</status><x xmlns='vcard-temp:x:update'/></presence>")
    [shown] = [one for one in bob.take() if one.tag.endswith("presence")]
    assert photo_hash(shown) == sha1(PNG)
    assert len(shown.findall(f"{{{ns.VCARD_UPDATE}}}x")) == 1
    await server.send(alice, "<presence><x xmlns='vcard-temp:x:update'><photo>0bad</photo></x></presence>")
    assert photo_hash(bob.take()[-1]) == sha1(PNG)
    await server.send(alice, "<presence><x xmlns='vcard-temp:x:update'><photo/></x></presence>")
    assert photo_hash(bob.take()[-1]) == ""
    await server.send(alice, "<presence to='room@rooms.example/a'/>")
    assert server.outbox.passing[-1][1].find(f"{{{ns.VCARD_UPDATE}}}x") is not None


async def test_presence_follows_changes(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await server.befriend("alice", "bob")
    await server.send(alice, "<presence><status>hi</status></presence>")
    assert photo_hash(bob.take()[-1]) is None
    await publish_avatar(server, alice, PNG)
    shown = [one for one in bob.take() if one.tag.endswith("presence")]
    assert [photo_hash(one) for one in shown] == [sha1(PNG)]
    assert shown[0].findtext(f"{{{ns.CLIENT}}}status") == "hi"
    await done(server, alice, publish(METADATA, "x", f"<metadata xmlns='{METADATA}'/>"))
    assert [photo_hash(one) for one in bob.take() if one.tag.endswith("presence")] == [""]
    await publish_avatar(server, alice, OTHER)
    assert [photo_hash(one) for one in bob.take() if one.tag.endswith("presence")][-1] == sha1(OTHER)


async def test_a_client_that_comes_later_need_not_know_the_avatar(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await server.befriend("alice", "bob")
    await change(server, alice, photo(PNG))
    server.leave(alice)
    bob.take()
    await server.online("alice", "tablet")
    assert photo_hash(bob.take()[-1]) == sha1(PNG)


async def test_an_avatar_that_is_for_few_is_not_named(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await server.befriend("alice", "bob")
    await publish_avatar(server, alice, PNG, access_model="whitelist")
    bob.take()
    await server.send(alice, "<presence><status>hi</status></presence>")
    assert photo_hash(bob.take()[-1]) is None


async def test_a_stranger_elsewhere_reads_open_avatars(server: World, alice: FakeSession) -> None:
    await change(server, alice, photo(PNG))
    answer = await from_afar(server, "eve@far.example/x", "get", f"<items node='{DATA}'/>", ALICE)
    assert said(answer) == "result"
