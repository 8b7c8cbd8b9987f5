"""Listening sockets and the certificates shown on them.

`Certificates` holds what the operator configured and makes TLS contexts; a reload that fails keeps what was there.
`Listener` is one port: it binds, accepts, and hands each connection to the factory of a face. What happens on a connection
is the face's matter, also when the listener stops.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import idna
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from config.settings import CertificateSettings, ListenSettings, TlsSettings

log = structlog.get_logger(__name__)

ALPN_XMPP: Final = ("xmpp-client",)
"""XEP-0368 s4."""
ALPN_HTTP: Final = ("http/1.1",)
_CIPHERS_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_BACKLOG: Final = 1024
_HANDSHAKE_SECONDS: Final = 30.0
_ACCEPT_PAUSE: Final = 0.5
_ACCEPT_AT_ONCE: Final = 16
_RESERVE: Final = 64
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class CertificateError(Exception):
    """A certificate cannot be used; the text says which file and what to do."""


class ListenError(Exception):
    """A port cannot be bound; the text says why and what to do."""


class ServerContext(ssl.SSLContext):
    """A TLS context that knows the channel binding of its certificate.

    `end_point` is the hash of RFC 5929 s4.1 of the certificate that this context shows.
    """

    end_point: bytes


class ChoosingContext(ServerContext):
    """A context that chooses among certificates by server name (RFC 6066 s3)."""

    # aiofastnet's own engine makes TLS objects that the ssl module does not know, and the ssl module's callback for server
    # names ends the process on them; this attribute makes aiofastnet use the ssl module's objects for such a context.
    _aiofastnet_force_fallback_ssl = True


@dataclass(frozen=True, slots=True)
class Identity:
    """One certificate with its key: the DNS names it is for, its channel binding and the end of its validity."""

    files: CertificateSettings
    names: frozenset[str]
    end_point: bytes
    expires: datetime

    def covers(self, name: str) -> bool:
        """Whether the certificate is for a host name in ASCII, wildcards included (RFC 6125 s6.4)."""
        name = name.lower().rstrip(".")
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


def tls_server_end_point(certificate: x509.Certificate) -> bytes:
    """The channel binding `tls-server-end-point` (RFC 5929 s4.1): SHA-256 where the signature uses MD5 or SHA-1 or none,
    otherwise the hash of the signature."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        name = "sha256"
    else:
        name = algorithm.name.replace("-", "_")
    return hashlib.new(name, certificate.public_bytes(Encoding.DER)).digest()


def read_identity(files: CertificateSettings) -> Identity:
    """Reads a certificate and proves that the key belongs to it. Raises `CertificateError`."""
    try:
        certificate = x509.load_pem_x509_certificates(files.certificate_file.read_bytes())[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except OSError as error:
        raise CertificateError(
            f"{files.certificate_file}: {error.strerror}; check the path and who may read it"
        ) from error
    except ValueError as error:
        raise CertificateError(
            f"{files.certificate_file}: no PEM certificate in it; write the whole chain there"
        ) from error
    except x509.ExtensionNotFound as error:
        raise CertificateError(
            f"{files.certificate_file}: names no domain (subjectAltName is missing); request a new certificate"
        ) from error
    try:
        if files.key_file.stat().st_mode & 0o006:
            raise CertificateError(f"{files.key_file}: every user of this machine can read it; chmod o-rw it")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate_file, files.key_file, password="")
    except ssl.SSLError as error:
        reason = (
            "does not belong to the certificate" if error.reason == "KEY_VALUES_MISMATCH" else "is no usable PEM key"
        )
        raise CertificateError(f"{files.key_file}: {reason}; write the key and the certificate as one pair") from error
    except OSError as error:
        raise CertificateError(f"{files.key_file}: {error.strerror}; check the path and who may read it") from error
    domains = frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
    return Identity(files, domains, tls_server_end_point(certificate), certificate.not_valid_after_utc)


class Certificates:
    """The certificates of this server. Raises `CertificateError` when one cannot be used.

    `now` gives the wall clock: it decides about expiry.
    """

    def __init__(self, settings: TlsSettings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._contexts: dict[tuple[str, ...], ServerContext] = {}
        self._settings = settings
        self.identities = tuple(read_identity(files) for files in settings.certificate)
        for identity in self.identities:
            if identity.expires <= now():
                log.error("certificate has expired; renew it", file=str(identity.files.certificate_file))

    def first_expiry(self) -> float:
        """When the first certificate expires, in seconds since 1970; 0 without certificates."""
        return min((identity.expires.timestamp() for identity in self.identities), default=0.0)

    def context(self, alpn: Sequence[str] = ()) -> ServerContext:
        """The context for new handshakes; the same one until a reload. Raises `CertificateError` without certificates."""
        key = tuple(alpn)
        if key not in self._contexts:
            self._contexts[key] = self._make(key)
        return self._contexts[key]

    def reload(self, settings: TlsSettings) -> None:
        """Reads all files again. On any fault, an expired certificate included, everything stays as it was and
        `CertificateError` says why."""
        identities = tuple(read_identity(files) for files in settings.certificate)
        for identity in identities:
            if identity.expires <= self._now():
                raise CertificateError(
                    f"{identity.files.certificate_file}: has expired; renew it and send SIGHUP again"
                )
        if self.identities and not identities:
            raise CertificateError("no certificate is configured any more; a restart is needed to serve without TLS")
        self._settings, self.identities = settings, identities
        self._contexts.clear()
        log.info("certificates read again", number=len(identities))

    def end_point(self, context: ssl.SSLContext | None) -> bytes | None:
        """Channel binding of the certificate that a connection was shown. `context` is `ssl_object.context` where the TLS
        object has one (it is the chosen certificate's), else the context the handshake began with."""
        return context.end_point if isinstance(context, ServerContext) else None

    def _make(self, alpn: tuple[str, ...]) -> ServerContext:
        if not self.identities:
            raise CertificateError("no certificate is configured; add [[tls.certificate]]")
        if len(self.identities) == 1:
            return self._fill(ServerContext(ssl.PROTOCOL_TLS_SERVER), self.identities[0], alpn)
        choices = [
            (identity, self._fill(ChoosingContext(ssl.PROTOCOL_TLS_SERVER), identity, alpn))
            for identity in self.identities
        ]

        def choose(tls: Any, name: str | None, _context: ssl.SSLContext) -> None:
            for identity, context in choices:
                if name and identity.covers(name):
                    tls.context = context
                    return

        choices[0][1].sni_callback = choose
        return choices[0][1]

    def _fill(self, context: ServerContext, identity: Identity, alpn: tuple[str, ...]) -> ServerContext:
        context.minimum_version = _VERSIONS[self._settings.minimum]
        context.set_ciphers(_CIPHERS_1_2)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.load_cert_chain(identity.files.certificate_file, identity.files.key_file, password="")
        context.end_point = identity.end_point
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def ascii_name(domain: str) -> str:
    """A domain as certificates and DNS spell it."""
    return idna.encode(domain, uts46=True).decode("ascii")


class Listener:
    """One `[[listen]]` entry: accepts connections and hands them to `connect`, a protocol factory.

    With `alpn` TLS begins with the first byte, unless the entry is cleartext. `xmpp` entries begin in cleartext; their face
    asks `Certificates.context` when the client wants STARTTLS. After a reload new connections get the new certificate.
    """

    def __init__(
        self,
        settings: ListenSettings,
        connect: Callable[[], asyncio.BaseProtocol],
        certificates: Certificates,
        alpn: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self._connect = connect
        self._certificates = certificates
        self._alpn = tuple(alpn)
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_direct_tls(self) -> bool:
        """Whether TLS begins with the first byte."""
        return self.settings.kind == "xmpps" or (
            self.settings.kind in ("https", "component") and self.settings.tls != "optional"
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each bound socket; the ports are real ones where the entry says 0."""
        return [listening.getsockname()[:2] for listening in self._sockets]

    async def start(self) -> None:
        """Binds and accepts. Raises `ListenError`, or `CertificateError` when TLS has no certificate."""
        if self.has_direct_tls:
            self._certificates.context(self._alpn)
        self._sockets = await open_sockets(self.settings.host, self.settings.port)
        for listening in self._sockets:
            self._attend(listening)
        for host, port in self.addresses:
            log.info("listening", kind=self.settings.kind, host=host, port=port, tls=self.settings.tls)

    async def stop(self, deadline: float) -> None:
        """Accepts no more and drops handshakes under way; connections go on."""
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._sockets = []

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _attend(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take the connections that wait, a bounded number at a time so that others get their turn."""
        # An own loop instead of `create_server`, which would hold on to the context it was given: a reload must change the
        # certificate of the next connection without a moment in which the port is closed.
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._rest(listening, str(error.strerror))
                    return
                # What else accept reports concerns the one connection that is gone already (accept(2)).
                continue
            if connection.fileno() >= _descriptors_for_connections():
                connection.close()
                self._rest(listening, "no descriptors but those in reserve")
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._welcome(connection))

    def _rest(self, listening: socket.socket, reason: str) -> None:
        log.error("cannot accept, will try again; raise LimitNOFILE", error=reason)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(_ACCEPT_PAUSE, self._attend, listening)

    async def _welcome(self, connection: socket.socket) -> None:
        context = self._certificates.context(self._alpn) if self.has_direct_tls else None
        timeout = _HANDSHAKE_SECONDS if context else None
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._connect, connection, ssl=context, ssl_handshake_timeout=timeout)
        except (OSError, TimeoutError) as error:
            log.debug("no connection", kind=self.settings.kind, error=str(error) or type(error).__name__)
            connection.close()


def _descriptors_for_connections() -> int:
    """The first descriptor that no client may have: the last ones are for the store, for files and for other servers.

    The kernel gives out the lowest number that is free, so a high one means that few are left.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - min(_RESERVE, limit // 8)


async def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets of a host text; `*` is every interface. Raises `ListenError`."""
    try:
        if host == "*":
            places = [(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port))]  # noqa: S104 - asked for
        else:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            places = [(info[0], info[4][:2]) for info in infos]  # type: ignore[misc]
    except OSError as error:
        raise ListenError(f"{host}: not an address of this machine ({error.strerror}); correct `host`") from error
    sockets: list[socket.socket] = []
    try:
        for family, (address, wanted) in dict.fromkeys(places):
            # Port 0 means one free port for all families.
            chosen = sockets[0].getsockname()[1] if sockets and wanted == 0 else wanted
            if (listening := _bind(family, address, chosen, is_optional=host == "*" and bool(sockets))) is not None:
                sockets.append(listening)
    except ListenError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


def _bind(family: int, address: str, port: int, *, is_optional: bool) -> socket.socket | None:
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if is_optional:
            return None
        raise
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if is_optional and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise ListenError(f"{address} port {port}: {_remedy(error, port)}") from error
    return listening


def _remedy(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        return f"in use by {holder}; stop it or choose another `port`" if holder else "in use; choose another `port`"
    if error.errno == errno.EACCES:
        return (
            "not allowed; give the process CAP_NET_BIND_SERVICE (deploy/parley.service does) or take a port above 1023"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; correct `host`"
    return f"{error.strerror or error}"


def holder_of(port: int) -> str | None:
    """Name and process id of who listens on a TCP port, as far as this user may see (Linux)."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        columns = (row.split() for row in rows)
        inodes |= {row[9] for row in columns if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(entry) in wanted for entry in os.scandir(process / "fd")):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return None
