"""Hostile XML and streams against a real node over real sockets: S-01 to S-26."""

import asyncio
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, fromstring

import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.node import ParleyServer
from tests.kit.server import Account
from tests.kit.wire import CLOSE, Wire, header, resident_bytes, stream_error, wire

ANY: Final[frozenset[str]] = frozenset()
RESTRICTED: Final = frozenset({"restricted-xml"})
ILL_FORMED: Final = frozenset({"not-well-formed", "restricted-xml", "bad-format", "bad-namespace-prefix"})
POLICY: Final = frozenset({"policy-violation"})
ENCODING: Final = frozenset({"unsupported-encoding"})
MARKER: Final = b"CANARY-7f3a"

LAUGHS: Final = (
    b"<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY l0 'lol'>"
    + b"".join(b"<!ENTITY l%d '%s'>" % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    + b"]><stream:stream to='&l9;' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
XXE: Final = (
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY secret SYSTEM 'file:///etc/passwd'>]>"
    b"<stream:stream to='&secret;' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)


@dataclass(frozen=True, slots=True)
class Attack:
    """Bytes, and the stream errors that may answer them (empty: any). ``headed``: a good stream header goes first."""

    case: str
    name: str
    data: bytes
    expected: frozenset[str]
    headed: bool = True

    def __str__(self) -> str:
        return f"{self.case} {self.name}"


def body(text: bytes, to: bytes = b"bob@parley.example") -> bytes:
    return b"<message to='" + to + b"' type='chat'><body>" + MARKER + text + b"</body></message>"


HEADER: Final = header("parley.example")

BEFORE: Final = (
    Attack("S-01", "billion laughs", LAUGHS, RESTRICTED | ILL_FORMED, headed=False),
    Attack("S-02", "external entity", XXE, ANY, headed=False),
    Attack("S-04", "comment before the header", b"<!-- c -->" + HEADER, RESTRICTED, headed=False),
    Attack("S-04", "comment", b"<!-- c -->", RESTRICTED),
    Attack("S-05", "processing instruction", b"<?php x ?>", RESTRICTED),
    Attack("S-06", "undeclared entity", b"<auth>&lol;</auth>", ILL_FORMED),
    Attack("S-09", "invalid UTF-8 in a name", b"<a\xff/>", ANY),
    Attack("S-11", "deep", b"<a>" * 100_000, POLICY),
    Attack("S-13", "huge attribute", b"<auth x='" + b"a" * 1024 * 1024 + b"'/>", POLICY),
    Attack("S-15", "doubled attribute", b"<auth a='1' a='2'/>", ILL_FORMED),
    Attack("S-18", "message", body(b""), frozenset({"not-authorized"})),
    Attack("S-18", "presence", b"<presence/>", frozenset({"not-authorized"})),
    Attack("S-18", "iq", b"<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>", frozenset({"not-authorized"})),
    Attack("S-19", "foreign domain", header("evil.example"), frozenset({"host-unknown"}), headed=False),
    Attack(
        "S-19", "wrong namespace", header("parley.example", namespace="jabber:wrong"),
        frozenset({"invalid-namespace"}), headed=False,
    ),
    Attack("S-21", "unknown element", b"<foo xmlns='urn:x'/>", frozenset({"unsupported-stanza-type", "not-authorized"})),
    Attack("S-21", "header in the stream", HEADER.partition(b"?>")[2], ANY),
    Attack("S-21", "text", b"hello", ANY),
    Attack("S-21", "mismatched tags", b"<auth></iq>", ILL_FORMED),
    Attack("S-22", "reference to NUL", b"<auth>&#0;</auth>", ILL_FORMED),
    Attack("S-22", "reference to BS", b"<auth>&#8;</auth>", ILL_FORMED),
    Attack("S-22", "reference to FFFE", b"<auth>&#xFFFE;</auth>", ILL_FORMED),
    Attack("S-22", "reference to a surrogate", b"<auth>&#xD800;</auth>", ILL_FORMED),
    Attack("S-22", "raw control character", b"<auth>\x01</auth>", ILL_FORMED),
    Attack("S-24", "UTF-16", HEADER.decode().encode("utf-16"), ENCODING | ILL_FORMED, headed=False),
    Attack(
        "S-24", "Latin-1", header("parley.example", declaration="<?xml version='1.0' encoding='ISO-8859-1'?>"),
        ENCODING, headed=False,
    ),
    Attack("S-24", "XML 1.1", header("parley.example", declaration="<?xml version='1.1'?>"), ANY, headed=False),
)  # fmt: skip

INVALID_UTF8: Final = (
    b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x82", b"\x80",
)  # fmt: skip

AFTER: Final = (
    Attack("S-03", "document type", b"<!DOCTYPE x>", ANY),
    Attack("S-04", "comment", b"<message><!-- c --></message>", RESTRICTED),
    Attack("S-05", "processing instruction", b"<message><?x y?></message>", RESTRICTED),
    Attack("S-06", "undeclared entity", body(b"&lol;"), ILL_FORMED),
    *(Attack("S-08", f"invalid UTF-8 {bad.hex()}", body(bad), ANY) for bad in INVALID_UTF8),
    Attack("S-09", "invalid UTF-8 in an attribute", b"<message id='\xff'/>", ANY),
    Attack("S-10", "vertical tab in a namespace", b"<message><x xmlns='urn:a\x0bb'/></message>", ANY),
    Attack("S-15", "doubled attribute", b"<message id='a' id='b'/>", ILL_FORMED),
    Attack("S-15", "doubled attribute by prefix", b"<iq xmlns:a='u:x' xmlns:b='u:x' a:c='1' b:c='2'/>", ILL_FORMED),
    Attack("S-21", "unknown element", b"<foo xmlns='urn:x'/>", frozenset({"unsupported-stanza-type"})),
    Attack("S-21", "text between stanzas", b"hello", ANY),
    Attack("S-21", "unbound prefix", b"<message><p:x/></message>", ILL_FORMED),
    Attack("S-22", "reference to NUL", body(b"&#0;"), ILL_FORMED),
    Attack("S-22", "reference to a surrogate", body(b"&#xD800;"), ILL_FORMED),
    Attack("S-22", "raw control character", body(b"\x02"), ILL_FORMED),
)


def account(node: ParleyServer, name: str) -> Account:
    return next(one for one in node.accounts if one.local == name)


async def login(node: ParleyServer, peer: Wire, name: str, resource: str = "wire") -> None:
    await peer.login(node.domain, account(node, name), resource)
    await peer.send(b"<presence/>")
    await peer.ping("ready")


def check(heard: bytes, attack: Attack) -> None:
    condition = stream_error(heard)
    assert condition is not None, f"no stream error in {heard[-400:]!r}"
    assert not attack.expected or condition in attack.expected
    assert heard.rstrip().endswith(CLOSE)
    assert b"root:" not in heard


@pytest.mark.parametrize("chunk", [0, 1], ids=["whole", "S-25 byte by byte"])
@pytest.mark.parametrize("attack", BEFORE, ids=str)
async def test_before_login(node: ParleyServer, attack: Attack, chunk: int) -> None:
    data = (header(node.domain) if attack.headed else b"") + attack.data
    if chunk and len(data) > 20_000:
        data = data[:20_000]
    async with wire(node.endpoint) as peer:
        await peer.send(data, chunk)
        check(await peer.rest(), attack)


@pytest.mark.parametrize("chunk", [0, 1], ids=["whole", "S-25 byte by byte"])
@pytest.mark.parametrize("attack", AFTER, ids=str)
async def test_after_login(node: ParleyServer, attack: Attack, chunk: int) -> None:
    async with wire(node.endpoint) as bob, wire(node.endpoint) as ann:
        await login(node, bob, "bob")
        await login(node, ann, "ann")
        await ann.send(attack.data, chunk)
        check(await ann.rest(), attack)
        await bob.ping("after")
        assert MARKER not in bob.heard


async def relayed(node: ParleyServer, sent: bytes, end: bytes = b"</message>") -> bytes:
    """What bob gets when ann sends a message to him; bob's connection still works afterwards."""
    async with wire(node.endpoint) as bob, wire(node.endpoint) as ann:
        await login(node, bob, "bob", "relay")
        await login(node, ann, "ann")
        begun = len(bob.heard)
        await ann.send(sent)
        await bob.until(end)
        await bob.ping("after")
        return bob.heard[begun:]


async def test_s07_cdata_cannot_break_out(node: ParleyServer) -> None:
    injected = b"</body></message><message from='admin@parley.example'><body>x"
    heard = await relayed(
        node, b"<message to='bob@parley.example' id='s07'><body><![CDATA[%s]]></body></message>" % injected
    )
    message = tree(heard)
    assert message.findtext(f"{{{ns.CLIENT}}}body") == injected.decode()
    assert message.get("from", "").startswith("ann@parley.example/")
    assert heard.count(b"<message") == 1


@pytest.mark.parametrize("uri", ["urn:a}b", "urn:a&#10;b", "urn:a b", "}", "{"], ids=repr)
async def test_s10_odd_namespace_arrives_unchanged_or_not_at_all(node: ParleyServer, uri: str) -> None:
    async with wire(node.endpoint) as bob, wire(node.endpoint) as ann:
        await login(node, bob, "bob", "odd")
        await login(node, ann, "ann")
        begun = len(bob.heard)
        await ann.send(f"<message to='bob@parley.example'><body>odd</body><x xmlns='{uri}'/></message>".encode())
        await ann.send(b"<message to='bob@parley.example'><body>plain</body></message>")
        await ann.ping("sent")
        if ann.closed:
            return
        await bob.until(b"<body>plain</body></message>", b"<body>plain</body><")
        await bob.ping("after")
    got = fromstring(b"<stream xmlns='" + ns.CLIENT.encode() + b"'>" + bob.heard[begun:] + b"</stream>")
    for message in got.iterfind(f"{{{ns.CLIENT}}}message"):
        if message.findtext(f"{{{ns.CLIENT}}}body") == "odd":
            assert fromstring(f"<x xmlns='{uri}'/>").tag in [part.tag for part in message]


async def test_s12_deep_stanza_is_refused_or_intact(node: ParleyServer) -> None:
    deep = b"<a>" * 20_000 + b"</a>" * 20_000
    async with wire(node.endpoint) as ann:
        await login(node, ann, "ann")
        await ann.send(b"<message to='bob@parley.example'>" + deep + b"</message>")
        heard = await ann.rest(timeout=10)
    assert stream_error(heard) == "policy-violation"
    async with wire(node.endpoint) as cat:
        await login(node, cat, "cat")


@pytest.mark.parametrize("kind", ["attributes", "namespaces"])
async def test_s14_many_attributes_do_not_hurt_others(node: ParleyServer, kind: str) -> None:
    if kind == "attributes":
        inner = b" ".join(b"a%d='1'" % number for number in range(20_000))
    else:
        inner = b" ".join(b"xmlns:a%d='urn:%d'" % (number, number) for number in range(5_000))
    async with wire(node.endpoint) as bob, wire(node.endpoint) as ann:
        await login(node, bob, "bob", "calm")
        await login(node, ann, "ann")
        await ann.send(b"<message to='cat@parley.example'><x xmlns='urn:x' " + inner + b"/></message>")
        await bob.ping("neighbour", timeout=2)
        assert b"neighbour" in bob.heard


async def test_s16_large_stanza_is_relayed(node: ParleyServer) -> None:
    text = b"y" * 9_800
    assert text in await relayed(
        node, b"<message to='bob@parley.example' id='s16'><body>" + text + b"</body></message>"
    )


async def test_s17_huge_stanza_is_refused_while_it_comes(node: ParleyServer) -> None:
    async with wire(node.endpoint) as ann:
        await login(node, ann, "ann")
        before = resident_bytes(node.pid)
        await ann.send(b"<message to='bob@parley.example'><body>" + b"y" * 8 * 1024 * 1024 + b"</body></message>")
        heard = await ann.rest(timeout=10)
        grown = resident_bytes(node.pid) - before
    assert stream_error(heard) == "policy-violation"
    assert grown < 6 * 1024 * 1024, f"{grown} bytes more"


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\nHost: MIRROR\r\n\r\n", bytes.fromhex("16030100") + b"MIRROR" * 20, b"\x00\x01MIRROR\r\n" * 9],
    ids=["http", "tls", "noise"],
)
async def test_s20_other_protocols_are_closed_and_not_reflected(node: ParleyServer, noise: bytes) -> None:
    async with wire(node.endpoint) as peer:
        await peer.send(noise)
        assert b"MIRROR" not in await peer.rest()


@pytest.mark.parametrize(
    "inner",
    [
        b"<body>a&#13;b&#9;c&#10;d &lt;&amp;&gt; &apos;&quot;</body>",
        b"<body xml:lang='de'>\xc3\xa4 \xf0\x9f\x98\x80 </body>",
        b"<x xmlns='urn:x' a='&#10;&#9;&#13; &lt;&quot;&apos;'><y xmlns=''/>t<z xmlns:q='urn:q' q:r='1'/>u</x><body>b</body>",
        b"<p:x xmlns:p='urn:p'><p:y p:z='1'/><body xmlns='urn:o'>deep</body></p:x><body/>",
        b"<body>]]&gt;<![CDATA[<&]]></body>",
    ],
    ids=["references", "text", "attributes", "prefixes", "cdata"],
)
async def test_s23_tree_survives_the_relay(node: ParleyServer, inner: bytes) -> None:
    sent = b"<message xmlns='jabber:client' to='bob@parley.example' type='chat' id='s23'>" + inner + b"</message>"
    heard = await relayed(node, sent)
    got = tree(heard)
    wanted = fromstring(sent)
    ours = {f"{{{ns.STANZA_ID}}}stanza-id", f"{{{ns.DELAY}}}delay"}
    kept = [part for part in got if part.tag not in ours]
    assert [shape(part) for part in kept] == [shape(part) for part in wanted]


def tree(heard: bytes) -> Element:
    """The first message in what was heard, as an element of a client stream."""
    stanza = heard[heard.index(b"<message") : heard.index(b"</message>") + len(b"</message>")]
    return fromstring(b"<stream xmlns='" + ns.CLIENT.encode() + b"'>" + stanza + b"</stream>")[0]


def shape(node: Element) -> tuple[object, ...]:
    """An element as values that compare: name, attributes, text, children with what follows them."""
    return (node.tag, dict(node.attrib), node.text or "", [(shape(part), part.tail or "") for part in node])


async def test_s26_white_space_before_login_is_bounded(node: ParleyServer) -> None:
    async with wire(node.endpoint) as peer:
        await peer.send(header(node.domain))
        before = resident_bytes(node.pid)
        for _ in range(16):
            await peer.send(b" " * 1024 * 1024, timeout=60)
        assert resident_bytes(node.pid) - before < 4 * 1024 * 1024


@pytest.mark.parametrize("mebibytes", [16, pytest.param(1000, marks=[pytest.mark.heavy, pytest.mark.timeout(600)])])
async def test_s26_white_space_costs_no_memory(node: ParleyServer, mebibytes: int) -> None:
    async with wire(node.endpoint) as ann:
        await login(node, ann, "ann")
        before = resident_bytes(node.pid)
        highest = 0
        for _ in range(mebibytes):
            await ann.send(b" " * 1024 * 1024, timeout=120)
            highest = max(highest, resident_bytes(node.pid))
        assert highest - before < 4 * 1024 * 1024
        if not ann.closed:
            await asyncio.wait_for(ann.ping("alive", timeout=60), 60)
