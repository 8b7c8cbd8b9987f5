"""TLS and what may happen before it, against a real node: S-30 to S-37."""

import asyncio
import shutil
import socket
import ssl
from dataclasses import replace

import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.node import HOST, ParleyServer
from tests.kit.server import Account, Endpoint
from tests.kit.wire import header, plain, stream_error, wire

STARTTLS = f"<starttls xmlns='{ns.TLS}'/>".encode()
COMPRESS = b"<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>"


def required(node: ParleyServer) -> Endpoint:
    """The listener that refuses everything without TLS."""
    return replace(node.endpoint, port=node.ports.required)


def context(node: ParleyServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=node.authority.ca_file)


class Upgraded:
    """A connection that goes from cleartext to TLS at a moment the test chooses; blocking, for use in a thread."""

    def __init__(self, node: ParleyServer) -> None:
        self.sock: socket.socket = socket.create_connection((HOST, node.ports.required), timeout=10)
        self._node = node

    def until(self, *wanted: bytes) -> bytes:
        heard = b""
        while not any(one in heard for one in wanted):
            data = self.sock.recv(65536)
            if not data:
                break
            heard += data
        return heard

    def upgrade(self) -> None:
        self.sock = context(self._node).wrap_socket(self.sock, server_hostname=self._node.domain)

    def say(self, data: bytes, *wanted: bytes) -> bytes:
        self.sock.sendall(data)
        return self.until(*wanted)


def account(node: ParleyServer) -> Account:
    return node.accounts[0]


def test_s30_what_came_with_starttls_is_never_taken_for_protected(node: ParleyServer) -> None:
    peer = Upgraded(node)
    with peer.sock:
        peer.say(header(node.domain), b"</stream:features>")
        heard = peer.say(STARTTLS + header(node.domain) + plain(account(node)), b"proceed", b"</stream:stream>")
        if b"proceed" not in heard:
            return
        try:
            peer.upgrade()
            heard = peer.say(header(node.domain), b"</stream:features>")
        except OSError:
            return
        assert b"<success" not in heard
        assert heard.count(b"<stream:features") == 1
        assert b"<failure" in peer.say(f"<auth xmlns='{ns.SASL}' mechanism='NONE'/>".encode(), b"</failure>")


def test_s30_nor_what_came_right_behind_it(node: ParleyServer) -> None:
    for _ in range(20):  # whether both are read at once is a matter of microseconds
        peer = Upgraded(node)
        with peer.sock:
            peer.say(header(node.domain), b"</stream:features>")
            peer.sock.sendall(STARTTLS)
            heard = peer.say(header(node.domain) + plain(account(node)), b"proceed", b"</stream:stream>")
            assert b"<success" not in heard
            if b"proceed" not in heard:
                continue
            try:
                peer.upgrade()
                heard = peer.say(header(node.domain), b"</stream:features>")
            except OSError:
                continue
            assert b"<success" not in heard
            assert heard.count(b"<stream:features") == 1


async def test_s31_nothing_but_starttls_before_tls(node: ParleyServer) -> None:
    async with wire(required(node)) as peer:
        await peer.send(header(node.domain))
        features = await peer.until(b"</stream:features>")
        assert b"<required" in features
        assert b"mechanism" not in features
        await peer.send(plain(account(node)))
        answer = await peer.until(b"</failure>", b"</stream:stream>")
    assert b"<success" not in answer
    assert b"encryption-required" in answer or stream_error(answer) in ("policy-violation", "not-authorized")


async def test_s31_no_compression_before_tls(node: ParleyServer) -> None:
    async with wire(required(node)) as peer:
        await peer.send(header(node.domain))
        await peer.until(b"</stream:features>")
        await peer.send(COMPRESS)
        answer = await peer.until(b"</failure>", b"</stream:stream>")
    assert b"<compressed" not in answer
    assert stream_error(answer) is not None or b"<failure" in answer


def test_s32_second_starttls_fails(node: ParleyServer) -> None:
    peer = Upgraded(node)
    with peer.sock:
        peer.say(header(node.domain), b"</stream:features>")
        peer.say(STARTTLS, b"proceed")
        peer.upgrade()
        features = peer.say(header(node.domain), b"</stream:features>")
        assert b"starttls" not in features
        heard = peer.say(STARTTLS, b"failure", b"</stream:stream>")
    assert b"proceed" not in heard
    assert b"<failure" in heard or stream_error(heard) is not None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_s33_old_tls_is_refused(node: ParleyServer, version: ssl.TLSVersion) -> None:
    old = context(node)
    old.minimum_version = version
    old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((HOST, node.ports.xmpps), timeout=10) as sock, pytest.raises(OSError):
        old.wrap_socket(sock, server_hostname=node.domain)


@pytest.mark.parametrize("ciphers", ["eNULL:@SECLEVEL=0", "aNULL:@SECLEVEL=0"])
def test_s33_no_cipher_without_encryption_or_certificate(node: ParleyServer, ciphers: str) -> None:
    weak = context(node)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers(ciphers)
    with socket.create_connection((HOST, node.ports.xmpps), timeout=10) as sock, pytest.raises(OSError):
        weak.wrap_socket(sock, server_hostname=node.domain)


async def test_s34_renegotiation_is_refused(node: ParleyServer) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    process = await asyncio.create_subprocess_exec(
        program, "s_client", "-connect", f"{HOST}:{node.ports.xmpps}", "-servername", node.domain, "-tls1_2",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    heard = b""
    try:
        async with asyncio.timeout(20):
            while b"Extended master secret" not in heard:
                data = await process.stdout.read(4096)
                assert data, heard
                heard += data
            process.stdin.write(b"R\n")
            await process.stdin.drain()
            while data := await process.stdout.read(4096):
                heard += data
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert b"RENEGOTIATING" in heard
    assert b"no renegotiation" in heard or b"alert" in heard or b"unexpected eof" in heard


def test_s35_alpn_of_http_is_not_selected_on_the_xmpp_port(node: ParleyServer) -> None:
    wrong = context(node)
    wrong.set_alpn_protocols(["http/1.1", "h2"])
    with socket.create_connection((HOST, node.ports.xmpps), timeout=10) as sock:
        try:
            secure = wrong.wrap_socket(sock, server_hostname=node.domain)
        except ssl.SSLError as refused:
            selected = refused.reason
        else:
            with secure:
                selected = secure.selected_alpn_protocol() or ""
    assert selected in ("", "TLSV1_ALERT_NO_APPLICATION_PROTOCOL")


def test_s35_alpn_of_xmpp_is_selected(node: ParleyServer) -> None:
    right = context(node)
    right.set_alpn_protocols(["xmpp-client"])
    with (
        socket.create_connection((HOST, node.ports.xmpps), timeout=10) as sock,
        right.wrap_socket(sock, server_hostname=node.domain) as secure,
    ):
        assert secure.selected_alpn_protocol() == "xmpp-client"


@pytest.mark.parametrize(("to", "condition"), [("evil.example", "host-unknown"), ("parley.example", None)])
def test_s36_the_stream_decides_the_host_not_the_tls_name(node: ParleyServer, to: str, condition: str | None) -> None:
    stranger = context(node)
    stranger.check_hostname = False
    with socket.create_connection((HOST, node.ports.xmpps), timeout=10) as sock:
        try:
            secure = stranger.wrap_socket(sock, server_hostname="evil.example")
        except ssl.SSLError:
            return  # an alert is a good answer too
        with secure:
            secure.sendall(header(to))
            heard = b""
            while b"</stream:features>" not in heard and (data := secure.recv(65536)):
                heard += data
    assert stream_error(heard) == condition
    assert (b"<stream:features" in heard) == (condition is None)


async def test_s37_compression_is_not_offered(node: ParleyServer) -> None:
    async with wire(node.endpoint) as peer:
        await peer.login(node.domain, account(node))
        assert b"compress" not in peer.heard
        await peer.send(COMPRESS)
        answer = await peer.until(b"</failure>", b"</stream:stream>")
    assert b"<compressed" not in answer
