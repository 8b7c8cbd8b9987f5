"""Our keys on disk, and what is believed of the keys of others (S-151..S-153, S-179)."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.destinations import Destinations, Way, time_to_live
from federation.http.fetch import Fetcher, FetchFailed
from federation.http.keys import PeerKeys
from federation.http.own_keys import KeyFileExposed, OwnKeys
from federation.policy import Pin, Policy
from homeserver.protocol.keydocs import KeyDocument, KeyDocumentRefused, PublishedKey, make_document, read_document
from homeserver.protocol.signing import SigningKey
from homeserver.storage.database import Database, open_database
from tests.kit.clocks import FakeClock
from tests.kit.federation import Section

FIRST = SigningKey("k1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
SECOND = SigningKey("k2", Ed25519PrivateKey.from_private_bytes(bytes(32)))
THIRD = SigningKey("k3", Ed25519PrivateKey.from_private_bytes(b"3" * 32))


def published(key: SigningKey, name: str | None = None, until: int | None = None) -> PublishedKey:
    return PublishedKey(name or key.id, key.private.public_key().public_bytes_raw(), 0, until)


def document(*keys: SigningKey, number: int = 1, extra: tuple[SigningKey, ...] = (), **more: Any) -> bytes:
    made = KeyDocument(more.get("domain", "localhost"), number, more.get("subdomains", ()), tuple(map(published, keys)))
    return make_document(made, (*keys, *extra))


def test_files_are_private(tmp_path: Path) -> None:
    clock = FakeClock()
    own = OwnKeys(tmp_path / "keys", {"a.example": ["groups.a.example"]}, clock)
    path = tmp_path / "keys" / "a.example.json"
    assert path.stat().st_mode & 0o777 == 0o600
    again = OwnKeys(tmp_path / "keys", {"a.example": ["groups.a.example"]}, clock)
    assert again.signing_key("a.example").id == own.signing_key("a.example").id
    assert again.document("groups.a.example") == own.document("a.example")
    path.chmod(0o644)
    with pytest.raises(KeyFileExposed):
        OwnKeys(tmp_path / "keys", {"a.example": []}, clock)


def test_rotation_has_no_gap(tmp_path: Path) -> None:
    clock = FakeClock()
    own = OwnKeys(tmp_path, {"a.example": []}, clock)
    old = own.signing_key("a.example").id
    first = read_document(own.document("a.example") or b"", clock.now())
    new = own.rotate("a.example")
    assert own.signing_key("a.example").id == old
    published_early = read_document(own.document("a.example") or b"", clock.now(), first.keys)
    assert published_early.signers == {old, new}
    assert published_early.number > first.number
    clock.advance(86_401)
    assert own.signing_key("a.example").id == new
    clock.advance(3600)
    own.retire()
    last = read_document(own.document("a.example") or b"", clock.now())
    assert {key.id for key in last.keys} == {old, new}
    assert last.signers == {new}
    restarted = OwnKeys(tmp_path, {"a.example": []}, clock)
    assert restarted.signing_key("a.example").id == new


def test_revocation_is_immediate(tmp_path: Path) -> None:
    clock = FakeClock()
    own = OwnKeys(tmp_path, {"a.example": []}, clock)
    old = own.signing_key("a.example").id
    own.revoke("a.example", old)
    assert own.signing_key("a.example").id != old
    keys = {key.id: key for key in read_document(own.document("a.example") or b"", clock.now()).keys}
    assert keys[old].ended(clock.now())
    assert old not in (tmp_path / "a.example.json").read_text().partition("seed")[2]


def test_documents_that_prove_nothing() -> None:
    good = document(FIRST)
    assert read_document(good, 0.0).signers == {"k1"}
    unsigned = make_document(KeyDocument("localhost", 1, (), (published(FIRST), published(SECOND))), [FIRST])
    twice = make_document(KeyDocument("localhost", 1, (), (published(FIRST), published(SECOND, "k1"))), [FIRST])
    stranger = make_document(KeyDocument("localhost", 1, ("other.example",), (published(FIRST),)), [FIRST])
    wrong = make_document(KeyDocument("localhost", 1, (), (published(SECOND, "k1"),)), [FIRST])
    for body in (unsigned, twice, stranger, wrong, b"", b"{}", good[:-10], b"[" * 9999):
        with pytest.raises(KeyDocumentRefused):
            read_document(body, 0.0)


class Origin:
    """A peer on a TLS port of this machine; ``localhost:PORT`` stands for its domain."""

    def __init__(self) -> None:
        self.document = b""
        self.meta: bytes = b""
        self.headers: dict[str, str] = {}
        self.status = 200
        self.fetches = 0
        self.handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def start(self, directory: Path) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        self.ca_file = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        app = web.Application()
        app.router.add_get("/base/keys/{domain}", self.keys)
        app.router.add_get("/.well-known/host-meta.json", self.host_meta)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "localhost", 0, ssl_context=context)
        await site.start()
        self.port = self.runner.addresses[0][1]
        self.domain = f"localhost:{self.port}"
        self.base = f"https://{self.domain}/base"
        self.meta = b'{"links":[{"rel":"urn:parley:federation:1","href":"%s"}]}' % self.base.encode()

    async def keys(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        return web.Response(body=self.document, status=self.status, headers=self.headers)

    async def host_meta(self, request: web.Request) -> web.StreamResponse:
        if self.handler is not None:
            return await self.handler(request)
        return web.Response(body=self.meta, status=self.status, headers=self.headers)


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    found = Origin()
    await found.start(tmp_path)
    yield found
    await found.runner.cleanup()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(Section(tmp_path / "store" / "parley.db")) as found:
        yield found


class Learner:
    """Learns the keys of ``origin``."""

    def __init__(self, origin: Origin, database: Database) -> None:
        self.clock = FakeClock()
        self.origin, self.database = origin, database
        self.counts: list[str] = []
        pins = {origin.domain: Pin(origin.domain, None, origin.ca_file)}
        self.fetcher = Fetcher(pins)
        self.destinations = Destinations(self.fetcher, pins, database, self.clock)
        self.keys = PeerKeys(self.fetcher, self.destinations, pins, database, self.clock, self.counts.append)

    def serve(self, *keys: SigningKey, **more: Any) -> None:
        self.origin.document = document(*keys, domain=self.origin.domain, **more)

    async def has(self, key_id: str) -> bool:
        return await self.keys.find(self.origin.domain, key_id) is not None


@pytest.fixture
async def learner(origin: Origin, database: Database) -> AsyncIterator[Learner]:
    found = Learner(origin, database)
    yield found
    await found.fetcher.close()


async def test_learned_once_and_kept(learner: Learner) -> None:
    learner.serve(FIRST)
    assert await asyncio.gather(*(learner.has("k1") for _ in range(20))) == [True] * 20
    assert learner.origin.fetches == 1
    learner.clock.advance(3599)
    assert await learner.has("k1")
    assert learner.origin.fetches == 1
    learner.clock.advance(2)
    assert await learner.has("k1")
    assert learner.origin.fetches == 2


async def test_unknown_keys_cost_one_fetch_a_minute(learner: Learner) -> None:
    learner.serve(FIRST)
    for number in range(50):
        assert not await learner.has(f"x{number}")
    assert learner.origin.fetches == 1
    learner.clock.advance(61)
    assert not await learner.has("x")
    assert learner.origin.fetches == 2


async def test_next_key_signed_by_the_known_one(learner: Learner) -> None:
    learner.serve(FIRST)
    assert await learner.has("k1")
    learner.serve(FIRST, SECOND, number=2)
    learner.clock.advance(61)
    assert await learner.has("k2")
    assert learner.counts == []


async def test_new_owner_is_noticed(learner: Learner) -> None:
    learner.serve(FIRST)
    assert await learner.has("k1")
    learner.serve(SECOND, number=2)
    learner.clock.advance(3601)
    assert await learner.has("k2")
    assert learner.counts == ["federation_key_unvouched"]
    found = await learner.keys.find(learner.origin.domain, "k1")
    assert found is None or not found.in_use(learner.clock.now())


async def test_key_id_keeps_its_key(learner: Learner) -> None:
    learner.serve(FIRST)
    assert await learner.has("k1")
    learner.serve(SigningKey("k1", SECOND.private), number=2)
    learner.clock.advance(3601)
    found = await learner.keys.find(learner.origin.domain, "k1")
    assert found is not None
    assert found.public.public_bytes_raw() == published(FIRST).public
    assert "federation_key_id_reused" in learner.counts


async def test_old_document_is_refused(learner: Learner) -> None:
    learner.serve(FIRST, SECOND, number=5)
    assert await learner.has("k2")
    learner.serve(THIRD, number=4)
    learner.clock.advance(3601)
    assert not await learner.has("k3")


async def test_remembered_over_a_restart_and_an_outage(learner: Learner) -> None:
    learner.serve(FIRST)
    assert await learner.has("k1")
    again = Learner(learner.origin, learner.database)
    learner.origin.status = 503
    assert await again.has("k1")
    again.clock.advance(80_000)
    assert await again.has("k1")  # tried again, still down, still remembered
    again.clock.advance(7_000)
    assert not await again.has("k1")  # a day is enough
    await again.fetcher.close()


async def test_answers_that_are_not_taken(learner: Learner) -> None:
    for body in (b"x" * 70_000, b"{}", document(FIRST, domain="c.example"), b""):
        learner.origin.document = body
        learner.clock.advance(61)
        assert not await learner.has("k1")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=0", 60),
        ("max-age=315360000", 86_400),
        ("no-store", 3600),
        ("public, max-age=600", 600),
        ("max-age=-1", 3600),
    ],
)
def test_cache_times_are_clamped(value: str, seconds: float) -> None:
    assert time_to_live([(b"Cache-Control", value.encode())]) == seconds


async def test_discovery(learner: Learner) -> None:
    found = await learner.destinations.find(learner.origin.domain)
    assert (found.way, found.base) == (Way.SIGNED, learner.origin.base)


async def test_a_domain_that_had_the_signed_api_never_falls_back(learner: Learner) -> None:
    origin = learner.origin
    assert (await learner.destinations.find(origin.domain)).way is Way.SIGNED
    cases = (
        (404, b"", Way.UNKNOWN),
        (200, b'{"links":[]}', Way.UNKNOWN),
        (500, b"", Way.SIGNED),
        (200, b"{", Way.SIGNED),
    )
    for status, meta, way in cases:
        origin.status, origin.meta = status, meta
        learner.clock.advance(86_401)
        assert (await learner.destinations.find(origin.domain)).way is way


@pytest.mark.parametrize(
    ("status", "meta", "way"),
    [
        (404, b"", Way.STREAMS),
        (410, b"", Way.STREAMS),
        (200, b'{"links":[{"rel":"other","href":"x"}]}', Way.STREAMS),
        (500, b"", Way.UNKNOWN),
        (200, b"<XRD/>", Way.UNKNOWN),
        (200, b'{"links":[{"rel":"urn:parley:federation:1","href":"ftp://x/"}]}', Way.UNKNOWN),
        (200, b"[" * 40_000, Way.UNKNOWN),
        (200, b" " * 60_000, Way.UNKNOWN),
    ],
)
async def test_discovery_answers(learner: Learner, status: int, meta: bytes, way: Way) -> None:
    learner.origin.status, learner.origin.meta = status, meta
    assert (await learner.destinations.find(learner.origin.domain)).way is way


async def test_endless_and_slow_answers(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.http.fetch.FETCH_SECONDS", 0.5)

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.01)

    learner.origin.handler = endless
    found = await learner.destinations.find(learner.origin.domain)
    assert (found.way, found.reason) == (Way.UNKNOWN, "timed out")


async def test_a_compressed_answer_is_not_inflated(learner: Learner) -> None:
    """S-151: 100 MB of white space around a good document, in 100 kB and in 40 kB."""
    for size in (100_000_000, 40_000_000):
        bomb = gzip.compress(b" " * size)

        async def packed(request: web.Request, bomb: bytes = bomb) -> web.Response:
            return web.Response(body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

        learner.origin.handler = packed
        found = await learner.destinations.find(learner.origin.domain)
        assert found.way is Way.UNKNOWN


async def test_redirects_are_bounded_and_checked(learner: Learner) -> None:
    async def around(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.path)

    learner.origin.handler = around
    with pytest.raises(FetchFailed, match="redirects"):
        await learner.fetcher.get(learner.origin.domain, f"https://{learner.origin.domain}/.well-known/host-meta.json", 1000, 3)  # fmt: skip

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("ftp://x.example/")

    learner.origin.handler = away
    with pytest.raises(FetchFailed, match="https"):
        await learner.fetcher.get(learner.origin.domain, f"https://{learner.origin.domain}/.well-known/host-meta.json", 1000, 3)  # fmt: skip


async def test_wrong_certificate(learner: Learner, tmp_path: Path) -> None:
    stranger = Fetcher({learner.origin.domain: Pin(learner.origin.domain)})
    with pytest.raises(FetchFailed):
        await stranger.get(learner.origin.domain, learner.origin.base, 1000)
    await stranger.close()


def test_policy() -> None:
    assert Policy().permits("a.example")
    assert not Policy(deny=["a.example"]).permits("x.a.example")
    assert Policy(deny=["a.example"]).permits("ba.example")
    assert Policy(allow=["a.example"]).permits("a.example")
    assert not Policy(allow=["a.example"]).permits("b.example")
    assert not Policy(allow=["example"], deny=["a.example"]).permits("a.example")
