"""A certificate authority for one machine: what `localserve` needs to speak TLS, and `quickstart` until there is a real one.

Keys are EC P-256. Host names stand in subjectAltName alone (RFC 9525 s2); subjects of servers are empty, which makes that
extension critical (RFC 5280 s4.2.1.6).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_DAYS: Final = 3650
# What browsers and other clients accept at most from any authority.
_SERVER_DAYS: Final = 397


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its certificate's file, which clients must be told to trust, and its key."""

    certificate_file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """The authority of a folder (`ca.pem`, `ca.key`); made when it is not there."""
        certificate_file, key_file = folder / "ca.pem", folder / "ca.key"
        if certificate_file.exists() and key_file.exists():
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = load_pem_private_key(key_file.read_bytes(), None)
            if isinstance(key, ec.EllipticCurvePrivateKey) and certificate.not_valid_after_utc > datetime.now(UTC):
                return cls(certificate_file, certificate, key)
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Parley authority of this machine")])
        usage = _usage(digital_signature=False, key_cert_sign=True)
        builder = (
            _builder(key, _AUTHORITY_DAYS)
            .subject_name(name)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256())
        _write_key(key_file, key)
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return cls(certificate_file, certificate, key)

    def issue(
        self, names: Sequence[str], certificate_file: Path, key_file: Path, addresses: Sequence[str] = ()
    ) -> None:
        """Writes a certificate for host names and IP addresses, and its key, readable by the owner only."""
        key = ec.generate_private_key(ec.SECP256R1())
        hosts: list[x509.GeneralName] = [x509.DNSName(idna.encode(name, uts46=True).decode("ascii")) for name in names]
        hosts += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(key, _SERVER_DAYS)
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_cert_sign=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(identifier, critical=False)
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        _write_key(key_file, key)
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))


def _builder(key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    # A day back: the clock of a phone may be behind ours.
    begin = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, digital_signature: bool, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Made with its final mode: nobody else can read the key at any moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
