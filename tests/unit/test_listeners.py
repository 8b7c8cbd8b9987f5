"""Real sockets on loopback, with the loop the server uses and with the plain one."""

import asyncio
import hashlib
import shutil
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from cryptography import x509

from config.settings import CertificateSettings, ListenSettings, TlsSettings
from homeserver.lifecycle import new_event_loop
from homeserver.listeners import (
    ALPN_HTTP,
    ALPN_XMPP,
    CertificateError,
    Certificates,
    Listener,
    ListenError,
    holder_of,
    open_sockets,
)

LOOPS = pytest.mark.parametrize("loop_factory", [new_event_loop, uvloop.new_event_loop, asyncio.new_event_loop])


class Greeter(asyncio.Protocol):
    """Answers each connection with what the server sees of it: channel binding of the shown certificate."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates

    def connection_made(self, transport: Any) -> None:
        tls = transport.get_extra_info("ssl_object")
        context = getattr(tls, "context", None) or transport.get_extra_info("sslcontext")
        transport.write(self.certificates.end_point(context) or b"none")

    def data_received(self, data: bytes) -> None:
        pass


class Ground:
    """An authority and the files of its certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()

    def issue(self, file: str, *names: str, expires: datetime | None = None, rsa: bool = False) -> CertificateSettings:
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        issued = self.authority.issue_cert(*names, not_after=expires, key_type=kind)
        files = CertificateSettings(certificate_file=self.folder / f"{file}.pem", key_file=self.folder / f"{file}.key")
        files.certificate_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        files.key_file.touch(mode=0o600)
        files.key_file.write_bytes(issued.private_key_pem.bytes())
        return files

    def client(self, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    async def ask(self, port: int, name: str, context: ssl.SSLContext | None = None) -> tuple[bytes, str | None, bytes]:
        """What a client sees: hash of the certificate, the protocol agreed on, the greeting."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context or self.client(), server_hostname=name
        )
        tls = writer.get_extra_info("ssl_object")
        greeting = await reader.read(100)
        writer.close()
        return hashlib.sha256(tls.getpeercert(binary_form=True)).digest(), tls.selected_alpn_protocol(), greeting


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def digest(files: CertificateSettings) -> bytes:
    certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    return certificate.fingerprint(certificate.signature_hash_algorithm)


def listener(certificates: Certificates, kind: str = "xmpps", alpn: tuple[str, ...] = ALPN_XMPP) -> Listener:
    entry = ListenSettings(kind=kind, host="127.0.0.1", port=0)  # type: ignore[arg-type]
    return Listener(entry, lambda: Greeter(certificates), certificates, alpn)


@LOOPS
def test_the_server_name_chooses_the_certificate(
    ground: Ground, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    alpha, beta = ground.issue("alpha", "alpha.example"), ground.issue("beta", "beta.example", "*.beta.example")

    async def main() -> None:
        certificates = Certificates(TlsSettings(certificate=(alpha, beta)))
        serving = listener(certificates)
        await serving.start()
        port = serving.addresses[0][1]
        for name, files in (("alpha.example", alpha), ("beta.example", beta), ("groups.beta.example", beta)):
            shown, protocol, greeting = await ground.ask(port, name, ground.client(ALPN_XMPP))
            assert shown == greeting == digest(files)
            assert protocol == "xmpp-client"
        with pytest.raises(ssl.SSLCertVerificationError):
            await ground.ask(port, "evil.example")
        await serving.stop(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@LOOPS
def test_new_certificates_are_shown_after_a_reload_and_old_connections_stay(
    ground: Ground, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    files = ground.issue("one", "alpha.example")
    settings = TlsSettings(certificate=(files,))

    async def main() -> None:
        certificates = Certificates(settings)
        serving = listener(certificates)
        await serving.start()
        port = serving.addresses[0][1]
        old = digest(files)
        assert (await ground.ask(port, "alpha.example"))[0] == old
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=ground.client(), server_hostname="alpha.example"
        )
        assert await reader.read(100) == old
        ground.issue("one", "alpha.example", rsa=True)
        certificates.reload(settings)
        async with asyncio.timeout(5):
            while (await ground.ask(port, "alpha.example"))[0] == old:
                pass
        assert (await ground.ask(port, "alpha.example"))[0::2] == (digest(files), digest(files))
        assert certificates.context(ALPN_XMPP).end_point == digest(files)
        writer.write(b"still here")
        await writer.drain()
        assert not reader.at_eof()
        writer.close()
        more = (*settings.certificate, ground.issue("two", "beta.example"))
        certificates.reload(TlsSettings(certificate=more))
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await ground.ask(port, "beta.example"))[0] == digest(more[1])
                    break
                except ssl.SSLCertVerificationError:
                    continue
        await serving.stop(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def test_a_broken_reload_keeps_the_old_certificate_and_says_what_to_do(ground: Ground) -> None:
    files = ground.issue("one", "alpha.example")
    settings = TlsSettings(certificate=(files,))
    certificates = Certificates(settings)
    serving = listener(certificates)
    await serving.start()
    port, old = serving.addresses[0][1], digest(files)
    other = ground.issue("other", "alpha.example")
    expired = ground.issue("expired", "alpha.example", expires=datetime.now(UTC) - timedelta(days=1))
    for damage, remedy in (
        (lambda: shutil.copy(other.key_file, files.key_file), "does not belong to the certificate; write the key"),
        (lambda: files.certificate_file.write_text("half"), "no PEM certificate in it; write the whole chain"),
        (files.key_file.unlink, "No such file or directory; check the path"),
        (
            lambda: shutil.copy(expired.certificate_file, files.certificate_file),
            "has expired; renew it and send SIGHUP",
        ),
        (files.certificate_file.unlink, "No such file or directory; check the path"),
    ):
        ground_truth = files.certificate_file.read_bytes(), files.key_file.read_bytes()
        damage()
        if "expired" in remedy:
            shutil.copy(expired.key_file, files.key_file)
        with pytest.raises(CertificateError, match=remedy):
            certificates.reload(settings)
        assert (await ground.ask(port, "alpha.example"))[0] == old
        files.certificate_file.write_bytes(ground_truth[0])
        files.key_file.write_bytes(ground_truth[1])
    with pytest.raises(CertificateError, match="no certificate is configured any more"):
        certificates.reload(TlsSettings())
    await serving.stop(0)


def test_a_certificate_without_names_is_refused_at_the_start(ground: Ground) -> None:
    files = ground.issue("one", "alpha.example")
    files.certificate_file.write_bytes(ground.authority.cert_pem.bytes())
    with pytest.raises(CertificateError, match="names no domain"):
        Certificates(TlsSettings(certificate=(files,)))


async def test_protocols_that_do_not_overlap_are_not_agreed_on(ground: Ground) -> None:
    certificates = Certificates(TlsSettings(certificate=(ground.issue("one", "alpha.example"),)))
    serving = listener(certificates, kind="https", alpn=ALPN_HTTP)
    await serving.start()
    port = serving.addresses[0][1]
    assert (await ground.ask(port, "alpha.example", ground.client(ALPN_XMPP)))[1] is None
    assert (await ground.ask(port, "alpha.example", ground.client(ALPN_HTTP)))[1] == "http/1.1"
    await serving.stop(0)


async def test_old_tls_is_refused_and_so_is_renegotiation(ground: Ground) -> None:
    certificates = Certificates(TlsSettings(certificate=(ground.issue("one", "alpha.example"),), minimum="1.2"))
    serving = listener(certificates)
    await serving.start()
    old = ground.client()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ground.ask(serving.addresses[0][1], "alpha.example", old)
    assert certificates.context().options & ssl.OP_NO_RENEGOTIATION
    strict = Certificates(TlsSettings(certificate=(ground.issue("two", "a.example"),), minimum="1.3"))
    assert strict.context().minimum_version == ssl.TLSVersion.TLSv1_3
    await serving.stop(0)


async def test_a_port_in_use_names_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "process" in (holder_of(port) or "")
        with pytest.raises(ListenError, match=rf"127.0.0.1 port {port}: in use by .* \(process \d+\); stop it or"):
            await open_sockets("127.0.0.1", port)


async def test_addresses_that_are_not_ours() -> None:
    with pytest.raises(ListenError, match="does not have that address"):
        await open_sockets("192.0.2.1", 0)
    with pytest.raises(ListenError, match="not an address of this machine"):
        await open_sockets("no such host", 0)


async def test_a_star_listens_on_every_interface_with_one_port() -> None:
    sockets = await open_sockets("*", 0)
    try:
        assert sockets[0].getsockname()[0] == "0.0.0.0"
        assert len({listening.getsockname()[1] for listening in sockets}) == 1
    finally:
        for listening in sockets:
            listening.close()


async def test_a_cleartext_listener_needs_no_certificate_and_a_stopped_one_refuses(ground: Ground) -> None:
    certificates = Certificates(TlsSettings())
    entry = ListenSettings(kind="https", host="127.0.0.1", port=0, tls="optional")
    serving = Listener(entry, lambda: Greeter(certificates), certificates, ALPN_HTTP)
    await serving.start()
    host, port = serving.addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    assert await reader.read(10) == b"none"
    await serving.stop(0)
    writer.write(b"x")
    await writer.drain()
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)
    with pytest.raises(CertificateError, match="no certificate is configured"):
        await listener(certificates).start()


@LOOPS
def test_starttls_uses_the_same_contexts(ground: Ground, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    alpha, beta = ground.issue("alpha", "alpha.example"), ground.issue("beta", "beta.example")

    async def main() -> None:
        certificates = Certificates(TlsSettings(certificate=(alpha, beta)))
        loop = asyncio.get_running_loop()

        class Upgrader(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.task = loop.create_task(self.upgrade())

            async def upgrade(self) -> None:
                self.transport.write(b"go")
                greeter = Greeter(certificates)
                context = certificates.context()
                secure = await loop.start_tls(self.transport, greeter, context, server_side=True)
                assert secure is not None
                greeter.connection_made(secure)

        entry = ListenSettings(kind="xmpp", host="127.0.0.1", port=0)
        serving = Listener(entry, Upgrader, certificates)
        await serving.start()
        reader, writer = await asyncio.open_connection(*serving.addresses[0])
        writer.write(b"starttls")
        assert await reader.read(2) == b"go"
        await writer.start_tls(ground.client(), server_hostname="beta.example")
        assert await reader.read(100) == digest(beta)
        writer.close()
        await serving.stop(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
