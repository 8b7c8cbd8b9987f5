"""The signed API, receiving side: three endpoints below one base URL.

The order of the checks is that of their cost, and nothing of a stranger's body is read before it is known who sent it:
headers, destination, time, key, signature, policy, announced size, then the body against its digest, then what is in
it. All refusals are problem details with a stable type; where the request can be told apart its refusal is signed.
"""

import asyncio
import re
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from federation.http.own_keys import DOCUMENT_TTL
from federation.http.prover import Proven, Prover
from federation.inbound import Inbound
from federation.policy import Limits
from homeserver.counts import Tally
from homeserver.protocol import envelope, problems
from homeserver.protocol.envelope import EnvelopeRefused
from homeserver.protocol.jid import InvalidJID, prepare_domain
from homeserver.protocol.problems import Refusal
from homeserver.protocol.signing import RequestSignature, SignatureRefused, read_request, sign_answer
from homeserver.services.clock import Clock

log = structlog.get_logger(__name__)

WAKE_EVERY: Final = 10.0
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,15}")
_MAX_REMEMBERED: Final = 50_000
T = TypeVar("T")

Heard = Callable[[str, str], None]
"""Called with (our domain, the peer's domain) when a peer proved that it is there."""

Admit = Callable[[str, str, int], float]
"""Called with the peer's domain, its address and how many stanzas it sends; gives the seconds it must wait, or 0."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where the API is: ``public`` is the base URL as peers write it, ``path`` the prefix on our listener."""

    public: str
    path: str

    @staticmethod
    def at(public: str) -> "Mount":
        """The usual case: the listener sees the path that peers write."""
        return Mount(public.rstrip("/"), urlsplit(public).path.rstrip("/"))


class FederationApi:
    """The endpoints; `routes` gives them to the HTTP listener, which must not inflate bodies (``auto_decompress``)."""

    def __init__(
        self,
        mount: Mount,
        prover: Prover,
        inbound: Inbound,
        limits: Limits,
        clock: Clock,
        heard: Heard,
        admit: Admit = lambda _domain, _address, _stanzas: 0.0,
    ) -> None:
        self._mount = mount
        self._prover = prover
        self._own = prover.own
        self._inbound = inbound
        self._limits = limits
        self._clock = clock
        self._heard = heard
        self._admit = admit
        self._started = clock.now()
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._woken: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.outcomes = Tally("accepted", "refused")
        """Signed requests of peers."""

    def routes(self) -> list[web.RouteDef]:
        """Routes for an aiohttp application."""
        path = self._mount.path
        return [
            web.put(path + "/transactions/{origin}/{n}", self.transaction),
            web.post(path + "/wake", self.wake),
            web.get(path + "/keys/{domain}", self.keys),
        ]

    async def keys(self, request: web.Request) -> web.Response:
        """``GET BASE/keys/{domain}``: our key document."""
        document = None
        try:
            document = self._own.document(prepare_domain(request.match_info["domain"]))
        except InvalidJID:
            document = None
        if document is None:
            return _plain(Refusal(problems.UNKNOWN_DESTINATION))
        headers = {"Cache-Control": f"max-age={DOCUMENT_TTL}"}
        return web.Response(body=document, content_type="application/jose+json", headers=headers)

    async def wake(self, request: web.Request) -> web.Response:
        """``POST BASE/wake``: the origin is there again."""

        async def handle(proven: Proven) -> tuple[int, bytes]:
            proven.signature.check_body(await self._body(request))
            pair = (proven.destination, proven.origin.domain)
            now = self._clock.monotonic()
            if self._woken.get(pair, -WAKE_EVERY) + WAKE_EVERY <= now:
                _remember(self._woken, pair, now)
                self._heard(*pair)
            return 204, b""

        return await self._answered(request, handle)

    async def transaction(self, request: web.Request) -> web.Response:
        """``PUT BASE/transactions/{origin}/{n}``: a batch of stanzas."""

        async def handle(proven: Proven) -> tuple[int, bytes]:
            number = self._number(request, proven)
            signature = proven.signature
            if signature.digest is None or signature.content_type != envelope.CONTENT_TYPE:
                raise Refusal(problems.UNSUPPORTED, "content-type must be application/json")
            if signature.coding not in (None, "gzip"):
                raise Refusal(problems.UNSUPPORTED, "the only content coding is gzip")
            body = await self._body(request)
            signature.check_body(body)
            batch = envelope.read_batch(body if signature.coding is None else inflate(body, self._limits.body_bytes))
            if batch.origin != signature.origin or batch.destination != signature.destination:
                raise Refusal(problems.BAD_REQUEST, "origin or destination differ from the headers")
            if self._admit(proven.origin.domain, request.remote or "", len(batch.stanzas) + len(batch.passing)):
                raise Refusal(problems.TOO_MANY, "too many stanzas, send them later")
            await self._check_number(proven, number, batch.epoch)
            self._heard(proven.destination, proven.origin.domain)
            fresh = signature.created >= int(self._started)
            answer = await self._inbound.accept(proven.origin, proven.destination, batch, fresh)
            return 200, envelope.write(answer)

        return await self._answered(request, handle)

    # --- checks -----------------------------------------------------------------------------------------------------

    async def _answered(
        self, request: web.Request, handle: Callable[[Proven], Awaitable[tuple[int, bytes]]]
    ) -> web.Response:
        signature: RequestSignature | None = None
        media = envelope.CONTENT_TYPE
        try:
            target = self._target(request)
            signature = read_request(request.method, target, request.raw_headers)
            status, body = await handle(await self._prover.prove(signature))
        except SignatureRefused as error:
            log.warning("request of a peer is not proven", reason=str(error), peer=signature and signature.origin[:255])
            status, body, media = 401, Refusal(problems.UNAUTHORIZED).body(), problems.CONTENT_TYPE
        except EnvelopeRefused as error:
            refusal = Refusal(problems.BAD_REQUEST, str(error)[:200])
            status, body, media = 400, refusal.body(), problems.CONTENT_TYPE
        except Refusal as refusal:
            status, body, media = problems.STATUS[refusal.name], refusal.body(), problems.CONTENT_TYPE
        self.outcomes.add("accepted" if status < 300 else "refused")
        return self._signed(request, signature, status, body, media)

    def _signed(
        self, request: web.Request, signature: RequestSignature | None, status: int, body: bytes, media: str
    ) -> web.Response:
        headers = {"Content-Type": media} if body else {}
        if status in (429, 503):
            headers["Retry-After"] = "5"
        owner = None if signature is None else self._prover.owner(signature.destination)
        if owner is not None and signature is not None:
            key, target = self._own.signing_key(owner), self._target(request)
            now = int(self._clock.now())
            headers |= sign_answer(key, status, body, request.method, target, signature.text, now).headers
        return web.Response(status=status, body=body, headers=headers)

    def _target(self, request: web.Request) -> str:
        # The part behind our mount point as it was sent; scheme and host only as the configuration has them.
        raw = request.raw_path
        return self._mount.public + raw[len(self._mount.path) :]

    def _number(self, request: web.Request, proven: Proven) -> int:
        if request.match_info["origin"] != proven.signature.origin:
            raise Refusal(problems.BAD_REQUEST, "the path names another origin than the headers")
        text = request.match_info["n"]
        if _NUMBER.fullmatch(text) is None or request.query_string:
            raise Refusal(problems.BAD_REQUEST, "n is not a transaction number")
        return int(text)

    async def _check_number(self, proven: Proven, number: int, epoch: str) -> None:
        pair = (proven.origin.domain, proven.destination)
        last = self._last.get(pair, 0)
        if number <= last:
            held = await self._inbound.holds(*pair, epoch)
            raise Refusal(
                problems.TRANSACTION_NUMBER,
                "the transaction number must grow",
                epoch=held.epoch,
                accepted=held.accepted,
                last=last,
            )
        _remember(self._last, pair, number)

    async def _body(self, request: web.Request) -> bytes:
        limit = self._limits.body_bytes
        if (request.content_length or 0) > limit:
            raise Refusal(problems.TOO_LARGE, f"at most {limit} bytes")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.content.iter_any():
                    size += len(part)
                    if size > limit:
                        raise Refusal(problems.TOO_LARGE, f"at most {limit} bytes")
                    parts.append(part)
        except TimeoutError as error:
            raise Refusal(problems.SLOW, "the body did not arrive in time") from error
        return b"".join(parts)


def inflate(body: bytes, limit: int) -> bytes:
    """Undo gzip (RFC 1952), one member, at most ``limit`` bytes. Raises `Refusal`."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        found = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refusal(problems.BAD_REQUEST, "the body is not gzip") from error
    if len(found) > limit:
        raise Refusal(problems.TOO_LARGE, f"at most {limit} bytes when inflated")
    if not inflater.eof or inflater.unused_data:
        raise Refusal(problems.BAD_REQUEST, "the body is not one gzip member")
    return found


def _plain(refusal: Refusal) -> web.Response:
    return web.Response(status=problems.STATUS[refusal.name], body=refusal.body(), content_type=problems.CONTENT_TYPE)


def _remember(memory: OrderedDict[tuple[str, str], T], pair: tuple[str, str], value: T) -> None:
    memory[pair] = value
    memory.move_to_end(pair)
    if len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)
