import asyncio
import ssl
from pathlib import Path

from cryptography import x509

from config.settings import CertificateSettings, ListenSettings, TlsSettings
from homeserver.cli.certificates import Authority
from homeserver.listeners import Certificates, Listener


def test_names_stand_in_the_extension_alone_and_keys_are_private(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "ca")
    authority.issue(["a.localhost", "bücher.example"], tmp_path / "a.pem", tmp_path / "a.key")
    certificate = x509.load_pem_x509_certificate((tmp_path / "a.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert len(certificate.subject) == 0
    assert names.critical
    assert names.value.get_values_for_type(x509.DNSName) == ["a.localhost", "xn--bcher-kva.example"]
    for key in (tmp_path / "a.key", tmp_path / "ca" / "ca.key"):
        assert key.stat().st_mode & 0o777 == 0o600


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first, second = Authority.open(tmp_path), Authority.open(tmp_path)
    assert first.certificate == second.certificate


async def test_a_strict_client_accepts_it(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    files = CertificateSettings(certificate_file=tmp_path / "a.pem", key_file=tmp_path / "a.key")
    authority.issue(["a.localhost", "groups.a.localhost"], files.certificate_file, files.key_file)
    entry = ListenSettings(kind="https", host="127.0.0.1", port=0)
    listener = Listener(entry, asyncio.Protocol, Certificates(TlsSettings(certificate=(files,))), ("http/1.1",))
    await listener.start()
    client = ssl.create_default_context(cafile=str(authority.certificate_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.hostname_checks_common_name = False
    for name in ("a.localhost", "groups.a.localhost"):
        _, writer = await asyncio.open_connection(*listener.addresses[0], ssl=client, server_hostname=name)
        writer.close()
    await listener.stop(0)
