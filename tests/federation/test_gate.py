"""What the signed API must refuse (protocol page, "Refusals"), spoken to over a real socket."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.settings import LimitSettings
from config.units import Rate
from federation.policy import Limits, Pin, Policy
from homeserver.protocol import problems
from homeserver.protocol.signing import SigningKey, read_answer, sign_request
from homeserver.services.limits import Limits as Rates
from tests.kit.federation import Peer
from tests.unit.protocol import test_envelope
from tests.unit.protocol.test_signing import SPOILT

KEY = SigningKey("k1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
FOREIGN = SigningKey("c1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
EPOCH = "00112233445566778899aabbccddeeff"


def stanza(number: int, sender: str = "a@a.example", to: str = "b@b.example") -> str:
    return f"<message from='{sender}' to='{to}' type='chat' id='m{number}'><body>hi</body></message>"


def envelope(*stanzas: str, first: int = 1, **changes: Any) -> dict[str, Any]:
    items = [{"seq": number, "id": f"i{number}", "xml": text} for number, text in enumerate(stanzas, first)]
    found = {"origin": "a.example", "destination": "b.example", "epoch": EPOCH, "stanzas": items, "passing": []}
    return found | changes


class Stranger:
    """Speaks for a.example, or pretends to."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = int(time.time() * 1000)
        self.http = aiohttp.ClientSession(auto_decompress=False)

    def signed(self, body: bytes | None, method: str = "PUT", path: str | None = None, **more: Any) -> dict[str, str]:
        origin, destination = more.pop("origin", "a.example"), more.pop("destination", "b.example")
        key, created = more.pop("key", KEY), more.pop("created", int(time.time()))
        url = self.peer.base + (path or self.path())
        made = sign_request(key, method, url, origin, destination, created, body, **more)
        self.asked = made.signature
        return made.headers

    def path(self) -> str:
        return f"/transactions/a.example/{self.number}"

    async def put(self, body: Any, **more: Any) -> tuple[int, Any]:
        """Sign and send; returns status and decoded body."""
        self.number += 1
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = more.pop("path", None) or self.path()
        headers = more.pop("headers", None) or self.signed(data, path=path, **more)
        return await self.raw("PUT", path, headers, data)

    async def raw(self, method: str, path: str, headers: Any, data: Any) -> tuple[int, Any]:
        url = self.peer.base + path
        async with self.http.request(
            method, url, headers=headers, data=data, skip_auto_headers=("Content-Type",)
        ) as answer:
            self.answer = answer
            self.body = await answer.read()
            return answer.status, json.loads(self.body) if self.body else None


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    found = Peer("b.example", tmp_path, limits=Limits(body_bytes=100_000, body_seconds=0.3))
    found.pins["a.example"] = Pin("a.example", "http://127.0.0.1:9", keys=_public(KEY))
    found.pins["c.example"] = Pin("c.example", "http://127.0.0.1:9", keys=_public(FOREIGN))
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def stranger(peer: Peer) -> AsyncIterator[Stranger]:
    found = Stranger(peer)
    yield found
    await found.http.close()


def _public(key: SigningKey) -> dict[str, bytes]:
    return {key.id: key.private.public_key().public_bytes_raw()}


def kind(body: Any) -> str:
    return str(body["type"]).rpartition(":")[2]


async def test_taken_and_answered(peer: Peer, stranger: Stranger) -> None:
    status, body = await stranger.put(envelope(stanza(1), stanza(2)))
    assert (status, body) == (200, {"epoch": EPOCH, "accepted": 2, "rejected": []})
    assert await peer.received() == ["m1", "m2"]
    url = peer.base + stranger.path()
    found = read_answer(200, stranger.answer.raw_headers, stranger.body, "PUT", url, stranger.asked)
    found.verify(peer.own.signing_key("b.example").private.public_key())


@pytest.mark.parametrize(
    "name", [name for name in SPOILT if "folded" not in name and "padded" not in name and "ASCII" not in name]
)
async def test_spoilt_signatures(peer: Peer, stranger: Stranger, name: str) -> None:
    """S-170: the same spoilt requests as in the unit test, over the wire."""
    data = json.dumps(envelope(stanza(1))).encode()
    now = int(time.time())
    good = stranger.signed(data, created=now, key=KEY)
    lines = [(key.encode(), value.encode()) for key, value in good.items()]
    spoilt = _spoil(SPOILT[name], lines, now, good)
    assert spoilt != lines
    headers = [(key.decode(), value.decode()) for key, value in spoilt]
    status, body = await stranger.raw("PUT", stranger.path(), headers, data)
    assert status == (404 if name == "destination changed" else 401)
    assert body["type"].startswith("urn:parley:federation:1:problem:")
    assert await peer.received() == []


def _spoil(
    spoil: Callable[[Any], Any], lines: list[tuple[bytes, bytes]], now: int, good: dict[str, str]
) -> list[tuple[bytes, bytes]]:
    """The table of the unit test speaks of its own time, key id and body: translate there and back."""
    from tests.unit.protocol import test_signing as unit

    swaps = [
        (f"{now + 60}", f"{unit.NOW + 60}"),
        (f"{now}", f"{unit.NOW}"),
        ('"k1"', '"ed25519-1"'),
        (good["Content-Digest"][9:], unit.content_digest(unit.BODY)[9:]),
    ]

    def change(found: list[tuple[bytes, bytes]], back: bool) -> list[tuple[bytes, bytes]]:
        for ours, theirs in swaps:
            old, new = (theirs, ours) if back else (ours, theirs)
            found = [(key, value.replace(old.encode(), new.encode())) for key, value in found]
        return found

    return change(spoil(change(lines, False)), True)


async def test_replay(peer: Peer, stranger: Stranger) -> None:
    """S-171: the durable part stays as it is, the passing part does not run again, also after a restart."""
    data = json.dumps(envelope(stanza(1), passing=["<presence from='a@a.example/r' to='b@b.example'/>"])).encode()
    headers = stranger.signed(data)
    assert (await stranger.raw("PUT", stranger.path(), headers, data))[0] == 200
    status, body = await stranger.raw("PUT", stranger.path(), headers, data)
    assert (status, kind(body), body["accepted"]) == (409, "transaction-number", 1)
    assert body["last"] == stranger.number
    assert len(peer.sink.passed) == 1
    await peer.close()
    await peer.open()
    peer.api._started += 10
    status, body = await stranger.raw("PUT", stranger.path(), headers, data)
    assert (status, body["accepted"]) == (200, 1)
    assert peer.sink.passed == []
    assert await peer.received() == ["m1"]


@pytest.mark.parametrize(("off", "status"), [(-120, 200), (120, 200), (-600, 401), (600, 401), (-86_400, 401)])
async def test_clock_skew(stranger: Stranger, off: int, status: int) -> None:
    assert (await stranger.put(envelope(stanza(1)), created=int(time.time()) + off))[0] == status


async def test_forged_sender(peer: Peer, stranger: Stranger) -> None:
    """S-172: a valid signature does not make a domain speak for another, in either lane."""
    forged = [stanza(1, "x@c.example"), stanza(2, "x@b.example"), stanza(3, "x@sub.a.example"), stanza(4)]
    passing = [f"<presence from='x@{domain}/r' to='b@b.example'/>" for domain in ("c.example", "b.example", "example")]
    status, body = await stranger.put(envelope(*forged, passing=passing))
    assert (status, body["accepted"]) == (200, 4)
    assert body["rejected"] == [{"seq": number, "error": "from-not-yours"} for number in (1, 2, 3)]
    assert await peer.received() == ["m4"]
    await asyncio.sleep(0)
    assert peer.sink.passed == []
    assert peer.counts["federation_forged_from"] == 6
    # The rejections come again until a batch starts above them.
    assert (await stranger.put(envelope(first=5)))[1]["rejected"] == body["rejected"]
    assert (await stranger.put(envelope(stanza(5), first=5)))[1]["rejected"] == []


async def test_keys_of_others(peer: Peer, stranger: Stranger) -> None:
    for more in (
        {"key": FOREIGN},
        {"key": SigningKey("k1", FOREIGN.private)},
        {"key": SigningKey("k2", KEY.private)},
        {"key": SigningKey("c1", KEY.private)},
    ):
        assert (await stranger.put(envelope(stanza(1)), **more))[0] == 401
    assert await peer.received() == []


DISAGREEMENTS: dict[str, dict[str, Any]] = {
    "path names another origin": {"path": "/transactions/c.example/99999999999999"},
    "body names another origin": {"body": {"origin": "c.example"}},
    "body names another destination": {"body": {"destination": "groups.b.example"}},
    "number not a number": {"path": "/transactions/a.example/x"},
    "number zero": {"path": "/transactions/a.example/0"},
    "number padded": {"path": "/transactions/a.example/0099999999999999"},
    "number too long": {"path": "/transactions/a.example/99999999999999999"},
    "query": {"path": "/transactions/a.example/99999999999999?n=1"},
}


@pytest.mark.parametrize("case", DISAGREEMENTS.values(), ids=DISAGREEMENTS)
async def test_disagreements(peer: Peer, stranger: Stranger, case: dict[str, Any]) -> None:
    """S-174."""
    status, body = await stranger.put(envelope(stanza(1), **case.get("body", {})), path=case.get("path"))
    assert (status, kind(body)) == (400, "bad-request")
    assert await peer.received() == []


async def test_destinations_that_are_not_ours(stranger: Stranger) -> None:
    for name in ("c.example", "xb.example", "b.example.", "B.example", "127.0.0.1", "-"):
        status, body = await stranger.put(envelope(stanza(1), destination=name), destination=name)
        assert status in (400, 404), name
        assert kind(body) in ("unknown-destination", "bad-request")


async def test_our_own_domain_as_origin(stranger: Stranger) -> None:
    status, _ = await stranger.put(envelope(origin="b.example"), origin="b.example")
    assert status == 401


async def test_other_host_header_changes_nothing(stranger: Stranger) -> None:
    data = json.dumps(envelope(stanza(1))).encode()
    headers = stranger.signed(data) | {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    assert (await stranger.raw("PUT", stranger.path(), headers, data))[0] == 200


async def test_large_bodies(peer: Peer, stranger: Stranger) -> None:
    assert (await stranger.put(b"x" * 200_000))[0] == 413
    data = b" " * 200_000

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    stranger.number += 1
    status, body = await stranger.raw("PUT", stranger.path(), stranger.signed(data), chunks())
    assert (status, kind(body)) == (413, "too-large")


CODED: dict[str, tuple[bytes, str, int]] = {
    "gzip": (gzip.compress(json.dumps(envelope(stanza(1))).encode()), "gzip", 200),
    "bomb": (gzip.compress(b" " * 50_000_000), "gzip", 413),
    "not gzip": (b"{}", "gzip", 400),
    "cut": (gzip.compress(json.dumps(envelope()).encode())[:-5], "gzip", 400),
    "two members": (gzip.compress(json.dumps(envelope()).encode()) * 2, "gzip", 400),
    "bytes behind": (gzip.compress(json.dumps(envelope()).encode()) + b"x", "gzip", 400),
    "other coding": (json.dumps(envelope()).encode(), "identity", 415),
    "coded twice": (gzip.compress(gzip.compress(json.dumps(envelope()).encode())), "gzip", 400),
}


@pytest.mark.parametrize("case", CODED.values(), ids=CODED)
async def test_content_codings(stranger: Stranger, case: tuple[bytes, str, int]) -> None:
    data, coding, expected = case
    assert (await stranger.put(data, coding=coding))[0] == expected


async def test_slow_body(peer: Peer, stranger: Stranger) -> None:
    data = b" " * 100

    async def dribble() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.02)

    stranger.number += 1
    status, body = await stranger.raw("PUT", stranger.path(), stranger.signed(data), dribble())
    assert (status, kind(body)) == (408, "slow")


async def test_numbers(peer: Peer, stranger: Stranger) -> None:
    status, body = await stranger.put(envelope(stanza(2), first=2))
    assert (status, kind(body), body["expected"]) == (409, "numbers", 1)
    await stranger.put(envelope(stanza(1), stanza(2)))
    status, body = await stranger.put(envelope(stanza(4), first=4))
    assert (status, body["expected"], body["epoch"], body["accepted"]) == (409, 3, EPOCH, 2)
    other = envelope(stanza(2), first=2)
    other["stanzas"][0]["id"] = "other"
    status, body = await stranger.put(other)
    assert (status, kind(body), body["accepted"]) == (409, "restored", 2)
    assert (await stranger.put(envelope(stanza(2), first=2)))[1]["accepted"] == 2
    assert await peer.received() == ["m1", "m2"]


async def test_poison_envelopes(peer: Peer, stranger: Stranger) -> None:
    for body in (b"", b"null", b'{"a":' * 1000, json.dumps(envelope(depth=-1)).encode(), b"\xff", b'{"stanzas":[NaN]}'):
        assert (await stranger.put(body))[0] == 400
    assert (await stranger.put(envelope(stanza(1)), content_type="text/plain"))[0] == 415
    assert await peer.received() == []


@pytest.mark.parametrize("body", test_envelope.BODIES.values(), ids=test_envelope.BODIES)
async def test_broken_bodies(peer: Peer, stranger: Stranger, body: bytes) -> None:
    """S-175 and S-178: what the unit test refuses, over the wire, and the next batch is taken."""
    assert (await stranger.put(body))[0] in (400, 413)
    assert await peer.received() == []
    assert (await stranger.put(envelope(stanza(1))))[0] == 200
    assert await peer.received() == ["m1"]


async def test_policy(peer: Peer, stranger: Stranger) -> None:
    peer.api._prover._policy = Policy(deny=["example"])
    status, body = await stranger.put(envelope(stanza(1)))
    assert (status, kind(body)) == (403, problems.POLICY)
    assert "Signature" in stranger.answer.headers


async def test_wake(peer: Peer, stranger: Stranger) -> None:
    heard: list[tuple[str, str]] = []
    peer.api._heard = lambda ours, theirs: heard.append((ours, theirs))
    for _ in range(3):
        headers = stranger.signed(None, "POST", "/wake")
        assert (await stranger.raw("POST", "/wake", headers, None))[0] == 204
    assert heard == [("b.example", "a.example")]  # at most once in ten seconds
    assert (await stranger.raw("POST", "/wake", {}, None))[0] == 401
    assert (await stranger.raw("POST", "/wake", stranger.signed(None, "POST", "/wake"), b"x"))[0] == 401


async def test_keys_endpoint(peer: Peer, stranger: Stranger) -> None:
    for name, status in (("b.example", 200), ("groups.b.example", 200), ("a.example", 404), ("%2e%2e", 404)):
        async with stranger.http.get(f"{peer.base}/keys/{name}") as answer:
            assert answer.status == status, name


async def test_no_commit_without_durable_stanzas(tmp_path: Path) -> None:
    peer = Peer("b.example", tmp_path)
    peer.pins["a.example"] = Pin("a.example", "http://127.0.0.1:9", keys=_public(KEY))
    commits: list[str] = []
    await peer.open(crash_point=commits.append)
    stranger = Stranger(peer)
    presence = "<presence from='a@a.example/r' to='b@b.example'/>"
    await stranger.put(envelope(passing=[presence]))  # the first one notes that the peer was heard
    async with asyncio.timeout(5):
        while "after_commit" not in commits:
            await asyncio.sleep(0.01)
    commits.clear()
    for _ in range(3):
        assert (await stranger.put(envelope(passing=[presence])))[0] == 200
    assert commits == []
    await stranger.http.close()
    await peer.close()


async def test_a_peer_that_sends_too_much_is_put_off(tmp_path: Path) -> None:
    peer = Peer("b.example", tmp_path)
    peer.pins["a.example"] = Pin("a.example", "http://127.0.0.1:9", keys=_public(KEY))
    rates = Rates(LimitSettings(stanzas_per_peer=Rate(3, 1000.0)), peer.clock.monotonic)
    peer.admit = rates.peer_wait
    await peer.open()
    stranger = Stranger(peer)
    try:
        status, _ = await stranger.put(envelope(stanza(1), stanza(2)))
        assert status == 200
        status, body = await stranger.put(envelope(stanza(3), stanza(4), first=3))
        assert (status, kind(body)) == (429, "too-many")
        assert stranger.answer.headers["Retry-After"]
        assert await peer.received() == ["m1", "m2"]
        assert rates.limited.counts["peer"] == 1
        assert peer.api.outcomes.counts == {"accepted": 1, "refused": 1}
    finally:
        await stranger.http.close()
        await peer.close()
