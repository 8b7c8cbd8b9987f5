"""Logins that are not what they seem, against a real node: S-40 to S-49."""

import base64
import hashlib
import hmac
import re
import ssl
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode
from tests.kit import client_stream
from tests.kit.node import HOST, ParleyServer
from tests.kit.server import Account
from tests.kit.wire import CLOSE, Wire, header, plain, stream_error, wire

ENDS = (b"</failure>", b"<success", b"<challenge", CLOSE)


def auth(mechanism: str, initial: bytes | None = None) -> bytes:
    text = "" if initial is None else base64.b64encode(initial).decode() or "="
    return f"<auth xmlns='{ns.SASL}' mechanism='{mechanism}'>{text}</auth>".encode()


def response(data: bytes) -> bytes:
    return f"<response xmlns='{ns.SASL}'>{base64.b64encode(data).decode()}</response>".encode()


@asynccontextmanager
async def opened(node: ParleyServer, source: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """A connection that has read the features."""
    async with wire(node.endpoint, source=source) as peer:
        await peer.send(header(node.domain))
        await peer.until(b"</stream:features>")
        yield peer


async def said(peer: Wire, data: bytes) -> bytes:
    """The answer to one step of a login."""
    await peer.send(data)
    return await peer.until(*ENDS, timeout=20)


async def challenge(peer: Wire, name: str, nonce: str = "abc", mechanism: str = "SCRAM-SHA-256") -> dict[str, str]:
    """The server's first SCRAM message."""
    answer = await said(peer, auth(mechanism, f"n,,n={name},r={nonce}".encode()))
    found = re.search(rb"<challenge[^>]*>([^<]+)<", answer)
    assert found is not None, answer
    return dict(part.split("=", 1) for part in base64.b64decode(found[1]).decode().split(","))


@pytest.mark.parametrize("mechanism", ["", "plain", "DIGEST-MD5", "EXTERNAL", "X-OAUTH2", "SCRAM-SHA-256-PLUS"])
async def test_s40_mechanisms_that_are_not_offered(node: ParleyServer, mechanism: str) -> None:
    async with opened(node) as peer:
        assert b"<invalid-mechanism" in await said(peer, auth(mechanism, b"x"))


async def test_s41_unknown_names_get_a_stable_challenge_like_any_other(node: ParleyServer) -> None:
    async with opened(node) as one, opened(node) as other, opened(node) as real:
        first, again = await challenge(one, "nobody", "a"), await challenge(other, "nobody", "b")
        known = await challenge(real, node.accounts[0].local, "c")
    assert first["s"] == again["s"]
    assert first["i"] == known["i"]
    assert len(base64.b64decode(first["s"])) == len(base64.b64decode(known["s"]))
    assert len(first["r"]) == len(known["r"])


async def test_s42_names_are_not_told_apart_by_time(node: ParleyServer) -> None:
    names = (node.accounts[0].local, "nobody")
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(12):
        for name in names:
            async with opened(node) as peer:
                begun = time.perf_counter()
                answer = await said(peer, auth("PLAIN", f"\0{name}\0wrong horse".encode()))
                spent[name].append(time.perf_counter() - begun)
                assert b"<not-authorized" in answer
    known, unknown = (statistics.median(spent[name]) for name in names)
    assert abs(known - unknown) < max(0.015, 0.5 * max(known, unknown)), f"{known:.4f} s and {unknown:.4f} s"


@pytest.mark.parametrize(
    ("initial", "condition"),
    [
        (b"", b"malformed-request"),
        (b"\0", b"malformed-request"),
        (b"\0ann", b"malformed-request"),
        (b"\0\0secret-ann", b"malformed-request"),
        (b"a\0b\0c\0d", b"malformed-request"),
        (b"bob@parley.example\0ann\0secret-ann", b"invalid-authzid"),
        (b"admin\0ann\0secret-ann", b"invalid-authzid"),
        (b"\0ann\0secret-bob", b"not-authorized"),
        (b"\0ann@parley.example\0secret-ann", b"not-authorized"),
    ],
)
async def test_s43_malformed_and_foreign_plain(node: ParleyServer, initial: bytes, condition: bytes) -> None:
    async with opened(node) as peer:
        answer = await said(peer, auth("PLAIN", initial))
        assert b"<success" not in answer
        assert condition in answer or (condition == b"not-authorized" and b"malformed-request" in answer)


async def test_s43_text_that_is_no_base64(node: ParleyServer) -> None:
    async with opened(node) as peer:
        assert b"<incorrect-encoding" in await said(
            peer, f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>!!!</auth>".encode()
        )


@pytest.mark.parametrize("change", ["proof", "nonce", "binding", "none"])
async def test_s44_every_part_of_a_proof_counts(node: ParleyServer, change: str) -> None:
    account = node.accounts[0]
    async with opened(node) as peer:
        first = await challenge(peer, account.local)
        salted = hashlib.pbkdf2_hmac("sha256", account.password.encode(), base64.b64decode(first["s"]), int(first["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        binding = "eSws" if change == "binding" else "biws"
        nonce = first["r"][::-1] if change == "nonce" else first["r"]
        without = f"c={binding},r={nonce}"
        server_first = f"r={first['r']},s={first['s']},i={first['i']}" + "".join(
            f",{name}={value}" for name, value in first.items() if name not in "rsi"
        )
        message = f"n={account.local},r=abc,{server_first},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        proof = bytearray(a ^ b for a, b in zip(key, signature, strict=True))
        if change == "proof":
            proof[7] ^= 1
        answer = await said(peer, response(f"{without},p={base64.b64encode(proof).decode()}".encode()))
    assert (b"<success" in answer) is (change == "none")
    assert change == "none" or b"<not-authorized" in answer or b"<malformed-request" in answer


async def test_s45_a_stream_has_few_guesses(node: ParleyServer) -> None:
    account = node.accounts[0]
    async with opened(node) as peer:
        wrong = auth("PLAIN", f"\0{account.local}\0wrong horse".encode())
        guesses = 0
        while not peer.closed and guesses <= 10:
            answer = await said(peer, wrong)
            guesses += b"<failure" in answer
            if CLOSE in answer:
                break
        assert stream_error(await peer.rest(timeout=20)) == "policy-violation"
    assert guesses <= 5


async def test_s46_guessing_is_slowed_and_the_owner_is_not_locked_out(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"limits": {"off_on_loopback": False}})
    await node.start()
    ann = node.accounts[0]
    wrong = auth("PLAIN", f"\0{ann.local}\0wrong horse".encode())
    put_off = 0
    for _ in range(40):
        async with opened(node, source="127.0.0.9") as guesser:
            answer = await said(guesser, wrong)
            assert b"<success" not in answer
            put_off += b"<temporary-auth-failure" in answer
    assert put_off >= 10
    async with opened(node, source="127.0.0.9") as guesser:
        # now not even the right password helps from there
        assert b"<temporary-auth-failure" in await said(guesser, plain(ann))
    async with wire(node.endpoint, source="127.0.0.8") as owner:
        await owner.login(node.domain, ann)


async def test_s47_one_login_and_one_resource_for_a_stream(node: ParleyServer) -> None:
    account = node.accounts[0]
    async with wire(node.endpoint) as peer:
        await peer.login(node.domain, account, "once")
        await peer.send(f"<iq type='set' id='b2'><bind xmlns='{ns.BIND}'><resource>two</resource></bind></iq>".encode())
        answer = await peer.until(b"</iq>", CLOSE)
        assert b"two</jid>" not in answer
        assert b"type='error'" in answer or stream_error(answer) is not None
    async with wire(node.endpoint) as peer:
        await peer.login(node.domain, account, "again")
        answer = await said(peer, plain(account))
        assert b"<success" not in answer
        assert b"<failure" in answer or stream_error(answer) is not None


@pytest.mark.parametrize("resource", ["x" * 1024, "&#x202E;" * 400, "a\u0000b".replace("\0", "&#xAD;") * 400])
async def test_s47_resources_that_are_too_long(node: ParleyServer, resource: str) -> None:
    async with opened(node) as peer:
        assert b"<success" in await said(peer, plain(node.accounts[0]))
        await peer.send(header(node.domain))
        await peer.until(b"</stream:features>")
        wish = f"<resource>{resource}</resource>"
        await peer.send(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'>{wish}</bind></iq>".encode())
        answer = await peer.until(b"</iq>", CLOSE)
    assert b"<jid>" not in answer


@pytest.mark.parametrize("spelling", ["ANN", "Ann", "\uff21nn", "\uff41\uff4e\uff4e"])
async def test_s48_another_spelling_is_the_same_account_in_its_one_form(node: ParleyServer, spelling: str) -> None:
    account = Account(f"{spelling}@{node.domain}", "secret-ann")
    async with wire(node.endpoint) as peer:
        await peer.login(node.domain, account)
        assert b"<jid>ann@parley.example/wire</jid>" in peer.heard


@pytest.mark.parametrize("spelling", ["a\u200dnn", "\u202eann", "ann\u00ad", "\u0430nn"])
async def test_s48_a_name_that_only_looks_alike_is_another(node: ParleyServer, spelling: str) -> None:
    async with opened(node) as peer:
        answer = await said(peer, auth("PLAIN", f"\0{spelling}\0secret-ann".encode()))
    assert b"<failure" in answer


class Flipped(client_stream.RawClient):
    """A client that binds its login to a certificate with one bit changed."""

    def end_point(self) -> bytes:
        right = super().end_point()
        return bytes((right[0] ^ 1,)) + right[1:]


@pytest.mark.parametrize(
    ("kind", "works"), [(client_stream.RawClient, True), (Flipped, False)], ids=["right", "one bit flipped"]
)
async def test_s49_the_certificate_is_bound_to_the_login(
    node: ParleyServer, kind: type[client_stream.RawClient], works: bool
) -> None:
    account = node.accounts[0]
    context = ssl.create_default_context(cafile=node.authority.ca_file)
    client = kind(HOST, node.ports.xmpps, node.domain)
    await client.connect(context)
    try:
        await client.open()
        assert "SCRAM-SHA-256-PLUS" in client.mechanisms()
        if works:
            await client.authenticate(account.local, account.password, "SCRAM-SHA-256-PLUS")
        else:
            with pytest.raises(client_stream.LoginFailed, match="not-authorized"):
                await client.authenticate(account.local, account.password, "SCRAM-SHA-256-PLUS")
    finally:
        client.abort()


async def test_s49_saying_that_plus_was_not_offered_is_a_downgrade(node: ParleyServer) -> None:
    context = ssl.create_default_context(cafile=node.authority.ca_file)
    client = client_stream.RawClient(HOST, node.ports.xmpps, node.domain)
    await client.connect(context)
    try:
        await client.open()
        await client.send(auth("SCRAM-SHA-256", b"y,,n=ann,r=abc"))
        answer = await client.recv()
        assert answer.tag == f"{{{ns.SASL}}}failure"
        assert answer[0].tag == f"{{{ns.SASL}}}not-authorized"
    finally:
        client.abort()
