"""Logs in the way clients do, through every endpoint that is advertised, for `parley check --login`."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import dns.asyncresolver
import dns.exception
from slixmpp import ClientXMPP

from config.settings import Settings
from homeserver.cli.findings import Finding
from homeserver.listeners import ascii_name
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import element, serialise

SECONDS: Final = 15.0
_AFTERWARDS: Final = 0.5
_SERVICES: Final = {"xmpp": "_xmpp-client._tcp", "xmpps": "_xmpps-client._tcp"}
_DEFAULT_PORTS: Final = {"xmpp": 5222, "xmpps": 5223}


class LoginFailed(Exception):
    """It did not work; ``remedy`` says what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Way:
    """One endpoint: `xmpp` (STARTTLS), `xmpps` (TLS from the first byte), `websocket` or `json`; ``url`` for the last two.

    ``secure`` is False where a listener serves cleartext on purpose.
    """

    kind: str
    host: str
    port: int
    url: str = ""
    secure: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.url or f'{self.host}:{self.port}'}"


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in; ``ca`` is the authority to trust, None for those of this machine."""

    address: JID
    password: str
    ca: Path | None

    def trust(self) -> ssl.SSLContext:
        """What a client that trusts that authority demands of certificates."""
        return ssl.create_default_context(cafile=self.ca)


async def of_logins(settings: Settings, login: Login, *, offline: bool) -> AsyncIterator[Finding]:
    """One finding per endpoint. ``offline``: the ports of this machine instead of what DNS and host-meta say."""
    ways = local_ways(settings) if offline else await advertised_ways(settings, login)
    for way in ways:
        try:
            async with asyncio.timeout(SECONDS):
                await _TRIES[way.kind](way, login)
        except LoginFailed as error:
            yield Finding("bad", "login", f"{way}: {error}", error.remedy)
        except TimeoutError:
            yield Finding("bad", "login", f"{way}: no answer in {SECONDS:g} s", _unreachable(way))
        except (OSError, aiohttp.ClientError) as error:
            yield _broken(way, error)
        else:
            yield Finding("ok", "login", f"{way}: {login.address.bare} logged in")


def local_ways(settings: Settings) -> list[Way]:
    """The ports of the configuration, reached from this machine."""
    found = []
    for listen in settings.listen:
        host = "127.0.0.1" if listen.host in ("*", "0.0.0.0", "::") else listen.host  # noqa: S104 compared, not bound
        has_tls = bool(settings.tls.certificate) and (listen.tls != "optional" or listen.kind == "xmpp")
        if listen.kind == "https":
            place = f"{f'[{host}]' if ':' in host else host}:{listen.port}"
            letter = "s" if has_tls else ""
            found.append(Way("websocket", host, listen.port, f"ws{letter}://{place}/xmpp-websocket", has_tls))
            found.append(Way("json", host, listen.port, f"http{letter}://{place}", has_tls))
        else:
            direct = listen.kind == "xmpps" or listen.tls == "direct"
            found.append(Way("xmpps" if direct else "xmpp", host, listen.port, secure=has_tls))
    return found


async def advertised_ways(settings: Settings, login: Login) -> list[Way]:
    """What a client finds that knows nothing but the address: SRV records (RFC 6120 s3.2) and host-meta (XEP-0156)."""
    domain = login.address.domain
    found = []
    for kind in ("xmpp", "xmpps"):
        if any(listen.kind == kind for listen in settings.listen):
            places = await _srv(f"{_SERVICES[kind]}.{ascii_name(domain)}")
            found += [Way(kind, *place) for place in places or [(ascii_name(domain), _DEFAULT_PORTS[kind])]]
    if any(listen.kind == "https" for listen in settings.listen):
        base = (settings.http.public_url or f"https://{ascii_name(domain)}").rstrip("/")
        parts = urlsplit(base)
        port = parts.port or 443
        socket = await _websocket(domain, login) or "ws" + base.removeprefix("http") + "/xmpp-websocket"
        found.append(Way("websocket", parts.hostname or "", port, socket))
        found.append(Way("json", parts.hostname or "", port, base))
    return found


async def _srv(name: str) -> list[tuple[str, int]]:
    resolver = dns.asyncresolver.Resolver()
    resolver.lifetime = 5.0
    try:
        answer = await resolver.resolve(f"{name}.", "SRV")
    except dns.exception.DNSException:
        return []
    return [(str(item.target).rstrip("."), int(item.port)) for item in answer]


async def _websocket(domain: str, login: Login) -> str | None:
    url = f"https://{ascii_name(domain)}/.well-known/host-meta.json"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
            session.get(url, ssl=login.trust()) as answer,
        ):
            document = await answer.json(content_type=None)
            return next(str(link["href"]) for link in document["links"] if link["rel"] == ns.XMPP_WEBSOCKET_LINK)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError, StopIteration):
        # Whatever stands there instead of the document, the usual address is tried, and its finding says more.
        return None


async def _try_xmpp(way: Way, login: Login) -> None:
    """With slixmpp, as one of the usual clients would."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(text: str, remedy: str) -> Callable[[Any], None]:
        def failed(event: Any) -> None:
            if not done.done():
                done.set_exception(LoginFailed(text.format(event), remedy))

        return failed

    def lost(error: Any) -> None:
        if not done.done():
            done.set_exception(error if isinstance(error, OSError) else ConnectionError(str(error)))

    def begun(_event: Any) -> None:
        if not done.done():
            done.set_result(None)

    def gone(_event: Any) -> None:
        # Why a handshake failed is told after the connection it ended.
        done.get_loop().call_later(_AFTERWARDS, lost, "the server closed the connection")

    client = ClientXMPP(login.address.bare, login.password)
    client.ca_certs = login.ca
    client.enable_direct_tls = way.kind == "xmpps"
    client.enable_starttls = way.kind == "xmpp"
    client.enable_plaintext = not way.secure
    client.add_event_handler("session_start", begun)
    client.add_event_handler("failed_all_auth", fail("refused", _password(login)))
    client.add_event_handler("ssl_invalid_chain", fail("the certificate is not accepted: {}", _CERTIFICATE))
    client.add_event_handler("connection_failed", lost)
    client.add_event_handler("disconnected", gone)
    try:
        client.connect(way.host, way.port)
        await done
    finally:
        client.cancel_connection_attempt()
        client.abort()


async def _try_websocket(way: Way, login: Login) -> None:
    """RFC 7395 with SASL PLAIN, inside TLS."""
    domain = login.address.domain
    proof = base64.b64encode(f"\0{login.address.local}\0{login.password}".encode()).decode()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(way.url, protocols=("xmpp",), **_request(way, login)) as socket,
    ):
        await socket.send_str(serialise(element(ns.FRAMING, "open", {"to": domain, "version": "1.0"})))
        sent = False
        async for frame in socket:
            text = str(frame.data)
            if "<mechanisms" in text and not sent:
                if ">PLAIN<" not in text:
                    raise LoginFailed("passwords are not taken there", "offer TLS on this port")
                await socket.send_str(serialise(element(ns.SASL, "auth", {"mechanism": "PLAIN"}, proof)))
                sent = True
            elif text.startswith("<success"):
                return
            elif text.startswith("<failure"):
                raise LoginFailed("refused", _password(login))
        raise ConnectionError("the server closed the connection")


async def _try_json(way: Way, login: Login) -> None:
    """A device is logged in, and out again."""
    body = {"username": login.address.bare, "password": login.password, "device": {"name": "parley check"}}
    options = _request(way, login)
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{way.url}/v1/sessions", json=body, **options) as answer:
            document = await answer.json(content_type=None)
            if answer.status >= 300:
                reason = document.get("detail") or document.get("title") or answer.status
                raise LoginFailed(f"refused: {reason}", _password(login))
        options["headers"]["Authorization"] = f"Bearer {document['access_token']}"
        async with session.delete(f"{way.url}/v1/sessions/current", **options) as answer:
            await answer.read()


_CERTIFICATE: Final = (
    "use a certificate for this name from an authority that clients trust; a private one is named by --ca"
)
_TRIES: Final[dict[str, Callable[[Way, Login], Coroutine[Any, Any, None]]]] = {
    "xmpp": _try_xmpp,
    "xmpps": _try_xmpp,
    "websocket": _try_websocket,
    "json": _try_json,
}


def _request(way: Way, login: Login) -> dict[str, Any]:
    """Asks for the domain by name, also where the port is reached by address."""
    local = way.host.replace(".", "").isdigit() or ":" in way.host
    options: dict[str, Any] = {"headers": {"Host": login.address.domain} if local else {}}
    if way.secure:
        options["ssl"] = login.trust()
        if local:
            options["server_hostname"] = ascii_name(login.address.domain)
    return options


def _broken(way: Way, error: Exception) -> Finding:
    cause = getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Finding("bad", "login", f"{way}: the certificate is not accepted: {cause.verify_message}", _CERTIFICATE)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return Finding("bad", "login", f"{way}: answered {error.status}", "let the proxy pass WebSockets through")
    return Finding("bad", "login", f"{way}: {str(error) or type(error).__name__}", _unreachable(way))


def _unreachable(way: Way) -> str:
    return f"see that the server runs and that port {way.port} of {way.host} is open to clients"


def _password(login: Login) -> str:
    return f"check the password, or set a new one: `parley account password {login.address.bare}`"
