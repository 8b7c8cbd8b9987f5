"""Logins as load: what one costs the server, and what others feel of many, at a steady rate and all at once.

A login is what a phone does: SCRAM, resource, stream management, carbons, roster, presence. `neighbour` is a client that was
there before and asks for a ping every few milliseconds. Keys are derived once for each salt, so that the generator does not
measure itself.
"""

import asyncio
import base64
import hashlib
import hmac
import multiprocessing
import re
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.wire import Account, LoginError

_FEATURES: Final = re.compile(rb"</stream:features>")
_SASL: Final = re.compile(rb"</challenge>|</success>|<success[^>]*/>|</failure>")
_READY: Final = re.compile(rb"<iq\b[^>]*\bid=.ready[^>]*>")
_SASL1: Final = "urn:ietf:params:xml:ns:xmpp-sasl"
_SASL2: Final = "urn:xmpp:sasl:2"
_FAST: Final = "urn:xmpp:fast:0"
_PING_SECONDS: Final = 0.005
_TIMEOUT: Final = 60.0

Figures = dict[str, float]
Kept = dict[str, tuple[str, str]]
"""Token and id of the client, by user."""


@dataclass
class Keys:
    """Keys by salt: a client keeps them too."""

    made: dict[tuple[str, bytes, int], bytes] = field(default_factory=dict)

    def of(self, password: str, salt: bytes, rounds: int) -> bytes:
        """ClientKey (RFC 5802 s3)."""
        found = self.made.get((password, salt, rounds))
        if found is None:
            salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
            found = self.made[password, salt, rounds] = hmac.digest(salted, b"Client Key", "sha256")
        return found


class Login:
    """One connection of one account, from the socket to the answer to its first ping."""

    def __init__(self, account: Account, keys: Keys) -> None:
        self._account = account
        self._keys = keys
        self._buffer = b""
        self.token = ""
        self.client = ""

    async def connect(self) -> None:
        """Open the connection and the stream."""
        self.reader, self.writer = await asyncio.open_connection(self._account.host, self._account.port)
        self.features = await self._open()

    async def classic(self) -> None:
        """RFC 6120: SCRAM, a new stream, a resource; then everything else."""
        answer = await self._scram(f"<auth xmlns='{_SASL1}' mechanism='SCRAM-SHA-256'>", "</auth>", _SASL1)
        self._demand(b"<success" in answer, answer)
        await self._open()
        self._send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        self._send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        self._send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        await self._ready()

    async def inline(self) -> None:
        """SASL2 with Bind 2, and a token for next time."""
        self.client = self.client or secrets.token_hex(16)
        inline = self._inline() + f"<request-token xmlns='{_FAST}' mechanism='HT-SHA-256-NONE'/>"
        begin = f"<authenticate xmlns='{_SASL2}' mechanism='SCRAM-SHA-256'><initial-response>"
        answer = await self._scram(begin, f"</initial-response>{inline}</authenticate>", _SASL2)
        self._demand(b"<bound" in answer, answer)
        found = re.search(rb"<token [^>]*token='([^']+)'", answer)
        self.token = found[1].decode() if found is not None else ""
        await self._until(_FEATURES)
        await self._ready()

    async def by_token(self) -> None:
        """SASL2 with Bind 2, by token: one round trip."""
        proof = self._account.user.encode() + b"\0" + hmac.digest(self.token.encode(), b"Initiator", "sha256")
        text = base64.b64encode(proof).decode()
        self._send(
            f"<authenticate xmlns='{_SASL2}' mechanism='HT-SHA-256-NONE'><initial-response>{text}</initial-response>"
            f"{self._inline()}<fast xmlns='{_FAST}'/></authenticate>"
        )
        answer = await self._until(_SASL)
        self._demand(b"<bound" in answer, answer)
        await self._until(_FEATURES)
        await self._ready()

    async def ping(self) -> float:
        """Seconds until the answer."""
        begun = time.perf_counter()
        self._send("<iq type='get' id='ready'><ping xmlns='urn:xmpp:ping'/></iq>")
        await self._until(_READY)
        return time.perf_counter() - begun

    async def close(self) -> None:
        """End the stream: nothing stays to be resumed."""
        with suppress(OSError):
            self._send("</stream:stream>")
            await self.writer.drain()
            self.writer.close()
            await self.writer.wait_closed()

    def _inline(self) -> str:
        identifier = "-".join(self.client[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        return (
            f"<user-agent id='{identifier}'><software>bench</software></user-agent><bind xmlns='urn:xmpp:bind:0'>"
            "<enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>"
        )

    async def _ready(self) -> None:
        self._send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>")
        await self.ping()

    async def _open(self) -> bytes:
        self._send(
            f"<?xml version='1.0'?><stream:stream to='{self._account.domain}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        return await self._until(_FEATURES)

    async def _scram(self, before: str, behind: str, profile: str) -> bytes:
        first = f"n={self._account.user},r={secrets.token_urlsafe(18)}"
        self._send(before + base64.b64encode(f"n,,{first}".encode()).decode() + behind)
        challenge = await self._until(_SASL)
        self._demand(b"<challenge" in challenge, challenge)
        text = base64.b64decode(challenge.partition(b"<challenge")[2].partition(b">")[2].partition(b"<")[0]).decode()
        values = dict(part.split("=", 1) for part in text.split(","))
        key = self._keys.of(self._account.password, base64.b64decode(values["s"]), int(values["i"]))
        final = f"c=biws,r={values['r']}"
        signature = hmac.digest(hashlib.sha256(key).digest(), f"{first},{text},{final}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        said = base64.b64encode(f"{final},p={proof}".encode()).decode()
        self._send(f"<response xmlns='{profile}'>{said}</response>")
        return await self._until(_SASL)

    def _demand(self, is_right: bool, answer: bytes) -> None:
        if not is_right:
            raise LoginError(f"{self._account.jid}: {answer[-500:]!r}")

    def _send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def _until(self, pattern: re.Pattern[bytes]) -> bytes:
        async with asyncio.timeout(_TIMEOUT):
            while (match := pattern.search(self._buffer)) is None:
                data = await self.reader.read(65536)
                if not data:
                    raise LoginError(f"{self._account.jid}: closed after {self._buffer[-300:]!r}")
                self._buffer += data
        found, self._buffer = self._buffer[: match.end()], self._buffer[match.end() :]
        return found


class Neighbour:
    """Asks for pings while the block under ``async with`` runs."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self.waits: list[float] = []
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._is_over = True
        await self._task

    async def _run(self) -> None:
        while not self._is_over:
            self.waits.append(await self._login.ping())
            await asyncio.sleep(_PING_SECONDS)

    def p99_ms(self) -> float:
        """What the worst of a hundred waited."""
        ordered = sorted(self.waits)
        return 1000 * ordered[len(ordered) * 99 // 100]


async def _one(account: Account, keys: Keys, way: str, kept: Kept) -> None:
    login = Login(account, keys)
    login.token, login.client = kept.get(account.user, ("", ""))
    await login.connect()
    try:
        await getattr(login, way)()
    finally:
        await login.close()
    if way == "inline":
        kept[account.user] = (login.token, login.client)


async def _steady(accounts: Sequence[Account], keys: Keys, way: str, kept: Kept, rate: float, seconds: float) -> None:
    """Logins at a fixed rate; an account begins anew when its login before is done."""
    begun = asyncio.get_running_loop().time()
    free: asyncio.Queue[Account] = asyncio.Queue()
    for account in accounts:
        free.put_nowait(account)

    async def one(account: Account) -> None:
        await _one(account, keys, way, kept)
        free.put_nowait(account)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + number / rate - asyncio.get_running_loop().time()))
            group.create_task(one(await free.get()))


async def _herd(accounts: Sequence[Account], keys: Keys, count: int) -> float:
    """All at the same moment, connections included; the seconds until the last is in."""
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(_one(accounts[number % len(accounts)], keys, "classic", Kept()))
    return time.perf_counter() - begun


def _warmed(accounts: Sequence[Account], way: str) -> tuple[Keys, Kept]:
    """One login of each account: keys and tokens for those that are measured."""

    async def warm() -> tuple[Keys, Kept]:
        keys, kept = Keys(), Kept()
        for account in accounts:
            await _one(account, keys, way, kept)
        return keys, kept

    return asyncio.run(warm())


def _crowd(accounts: Sequence[Account], keys: Keys, way: str, kept: Kept, rate: float, seconds: float) -> float:
    """In a process of its own: what the crowd computes must not hold up the one who measures. CPU seconds used."""
    began = time.process_time()
    asyncio.run(_steady(accounts, keys, way, kept, rate, seconds))
    return time.process_time() - began


def _all_at_once(accounts: Sequence[Account], keys: Keys, count: int) -> float:
    return asyncio.run(_herd(accounts, keys, count))


async def measure(accounts: Sequence[Account], pids: Sequence[int], rate: float, seconds: float, herd: int) -> Figures:
    """The last account is the neighbour. SASL2 and tokens are measured where the server offers them."""
    first = Login(accounts[-1], Keys())
    await first.connect()
    await first.classic()
    crowd = accounts[:-1]
    ways = ["classic"]
    if _FAST.encode() in first.features:
        ways += ["inline", "by_token"]
    figures: Figures = {"generator_share": 0.0}
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        for way in ways:
            warm = "inline" if way == "by_token" else way
            keys, kept = await loop.run_in_executor(elsewhere, _warmed, crowd, warm)
            before = cpu_seconds(pids)
            async with Neighbour(first) as neighbour:
                used = await loop.run_in_executor(elsewhere, _crowd, crowd, keys, way, kept, rate, seconds)
            figures[f"{way}_login_cpu_ms"] = 1000 * (cpu_seconds(pids) - before) / int(rate * seconds)
            figures[f"{way}_ping_p99_ms"] = neighbour.p99_ms()
            figures["generator_share"] = max(figures["generator_share"], used / seconds)
        async with Neighbour(first) as neighbour:
            figures["herd_seconds"] = await loop.run_in_executor(elsewhere, _all_at_once, crowd, keys, herd)
        figures["herd_ping_p99_ms"] = neighbour.p99_ms()
    await first.close()
    return figures


def run(job: dict[str, Any]) -> Figures:
    """One job of the generator."""
    accounts = [Account(**fields) for fields in job["accounts"]]
    return asyncio.run(measure(accounts, job["pids"], job["rate"], job["seconds"], job["herd"]))
