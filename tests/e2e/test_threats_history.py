"""Archives under attack, against a real node: S-66 in the archive, S-88, S-145."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from tests.kit.client_stream import RawClient
from tests.kit.node import ParleyServer
from tests.kit.server import Account

FORGED = f"<stanza-id xmlns='{ns.STANZA_ID}' by='{{owner}}' id='forged'/>"


def account(node: ParleyServer, name: str) -> Account:
    return next(one for one in node.accounts if one.local == name)


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str) -> AsyncIterator[RawClient]:
    """Logged in and not available."""
    made = RawClient(node.endpoint.host, node.endpoint.port, node.domain)
    await made.login(name, account(node, name).password)
    try:
        yield made
    finally:
        made.abort()


async def archive(client: RawClient, rsm: str | None = None) -> tuple[list[Element], Element]:
    """The results of an archive query, and its answer."""
    page = "" if rsm is None else f"<set xmlns='{ns.RESULT_SET}'>{rsm}</set>"
    await client.send(f"<iq type='set' id='mam'><query xmlns='{ns.ARCHIVE}'>{page}</query></iq>")
    found: list[Element] = []
    while True:
        stanza = await client.recv_stanza()
        if stanza.get("id") == "mam":
            return found, stanza
        result = stanza.find(f"{{{ns.ARCHIVE}}}result")
        if result is not None:
            found.append(result)


def message_of(result: Element) -> Element:
    found = result.find(f"{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message")
    assert found is not None
    return found


async def said(peer: RawClient, to: str, content: str, id_: str = "") -> str:
    """Send a message, and wait until it is in the sender's archive; its id."""
    id_ = id_ or secrets.token_hex(6)
    await peer.send(f"<message to='{to}' type='chat' id='{id_}'>{content}</message>")
    async with asyncio.timeout(20):
        while id_ not in [message_of(found).get("id") for found in (await archive(peer, "<max>5</max><before/>"))[0]]:
            await peer.request("get", f"<ping xmlns='{ns.PING}'/>", peer.domain)
    return id_


async def test_s66_what_waited_and_the_archive_carry_one_id_and_it_is_the_same(node: ParleyServer) -> None:
    bob = f"bob@{node.domain}"
    text = secrets.token_hex(8)
    async with client(node, "ann") as ann:
        await said(ann, bob, f"<body>{text}</body>" + FORGED.format(owner=bob))
    async with client(node, "bob") as again:
        await again.send("<presence/>")

        def is_it(stanza: Element) -> bool:
            return stanza.findtext(f"{{{ns.CLIENT}}}body") == text

        late = await again.expect(is_it)
        results, _ = await archive(again, "<max>1</max><before/>")
    ids = [(part.get("by"), part.get("id")) for part in late.iterfind(f"{{{ns.STANZA_ID}}}stanza-id")]
    assert ids == [(bob, results[0].get("id"))]
    assert message_of(results[0]).findtext(f"{{{ns.CLIENT}}}body") == text
    assert "forged" not in [part.get("id") for part in message_of(results[0])]


async def test_s88_a_retraction_by_somebody_else_changes_nothing(node: ParleyServer) -> None:
    bob, ann = f"bob@{node.domain}", f"ann@{node.domain}"
    text, id_ = secrets.token_hex(8), secrets.token_hex(8)
    retract = f"<retract xmlns='{ns.RETRACTION}' id='{id_}'/>"
    async with client(node, "ann") as author, client(node, "bob") as other, client(node, "cat") as third:
        await said(author, bob, f"<body>{text}</body>", id_)
        for peer, to in ((other, ann), (third, bob), (third, ann)):
            await said(peer, to, retract)
            await said(peer, to, f"<body>changed</body><replace xmlns='{ns.CORRECTION}' id='{id_}'/>")
        for owner in (author, other):
            results, _ = await archive(owner, "<max>20</max><before/>")
            named = [message_of(found) for found in results if message_of(found).get("id") == id_]
            assert [found.findtext(f"{{{ns.CLIENT}}}body") for found in named] == [text]
        await said(author, bob, retract)
        results, _ = await archive(other, "<max>20</max><before/>")
        (left,) = [message_of(found) for found in results if message_of(found).get("id") == id_]
        assert [part.tag for part in left] == [f"{{{ns.RETRACTION}}}retracted"]


async def test_s145_a_query_without_a_limit_gets_a_page(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        for number in range(150):
            await ann.send(f"<message to='cat@{node.domain}' type='chat'><body>{number}</body></message>")
        await said(ann, f"cat@{node.domain}", "<body>last</body>")
    async with client(node, "cat") as cat:
        sizes = []
        for rsm in (None, "", "<max>1000000</max>", "<max>99999999999999999999999999</max>", "<before/>"):
            results, answer = await archive(cat, rsm)
            assert answer.get("type") == "result"
            sizes.append(len(results))
        assert sizes == [50, 50, 100, 100, 50]
        for rsm in ("<max>-1</max>", "<max>x</max>", "<max>²</max>"):
            results, answer = await archive(cat, rsm)
            assert (results, answer.find(f".//{{{ns.STANZA_ERRORS}}}bad-request") is not None) == ([], True)
        results, answer = await archive(cat, "<max>0</max>")
        assert (len(results), int(answer.findtext(f".//{{{ns.RESULT_SET}}}count") or "") >= 150) == (0, True)
        page = f"<set xmlns='{ns.RESULT_SET}'><max>1000000</max></set>"
        await asyncio.wait_for(cat.request("get", f"<inbox xmlns='{ns.INBOX}'>{page}</inbox>"), 20)
