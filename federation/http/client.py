"""The signed API, sending side: sign a batch, put it, believe only an answer that is signed for this very request."""

import gzip
from typing import Final, cast

import structlog

from federation.destinations import Destinations, Way
from federation.http.fetch import Fetched, Fetcher, FetchFailed
from federation.http.keys import PeerKeys
from federation.http.own_keys import OwnKeys
from federation.transport import Delivered, Misnumbered, Parcel, Receipt, Refused, Retry, TooLarge
from homeserver.protocol import envelope, problems
from homeserver.protocol.envelope import Batch, EnvelopeRefused, Item, Reason
from homeserver.protocol.jid import ascii_domain
from homeserver.protocol.signing import SignatureRefused, Signed, read_answer, sign_request
from homeserver.services.clock import Clock

log = structlog.get_logger(__name__)

GZIP_ABOVE: Final = 128 * 1024


class SignedTransport:
    """Hands parcels to peers with the signed API. ``seconds`` is the time for one request."""

    def __init__(
        self,
        fetcher: Fetcher,
        destinations: Destinations,
        own: OwnKeys,
        peers: PeerKeys,
        clock: Clock,
        seconds: float = 30.0,
    ) -> None:
        self._fetcher = fetcher
        self._destinations = destinations
        self._own = own
        self._peers = peers
        self._clock = clock
        self._seconds = seconds
        self._last: dict[tuple[str, str], int] = {}

    async def deliver(self, parcel: Parcel) -> Receipt:
        """See `federation.transport.Transport`."""
        body = encode(parcel)
        coding = None
        if len(body) > GZIP_ABOVE:
            body, coding = gzip.compress(body, 1, mtime=0), "gzip"
        path = f"/transactions/{ascii_domain(parcel.origin)}/{self._number(parcel)}"
        try:
            answer = await self._send(parcel.origin, parcel.destination, "PUT", path, body, coding)
        except FetchFailed as error:
            self._destinations.forget(parcel.destination)
            return Retry(str(error))
        fetched, proven = answer
        if fetched.status == 200:
            return _delivered(fetched.body) if proven else Retry("the answer is not signed as it must be")
        return self._refused(parcel, fetched, proven)

    async def wake(self, origin: str, destination: str) -> bool:
        """See `federation.transport.Transport`."""
        try:
            fetched, _ = await self._send(origin, destination, "POST", "/wake", None, None)
        except FetchFailed:
            return False
        return fetched.status == 204

    def _number(self, parcel: Parcel) -> int:
        pair = (parcel.origin, parcel.destination)
        found = self._last[pair] = max(self._clock.microseconds() // 1000, self._last.get(pair, 0) + 1)
        return found

    async def _send(
        self, origin: str, destination: str, method: str, path: str, body: bytes | None, coding: str | None
    ) -> tuple[Fetched, bool]:
        found = await self._destinations.find(destination)
        if found.way is not Way.SIGNED or found.base is None:
            raise FetchFailed(found.reason or "has no signed API")
        url = found.base + path
        signed = sign_request(
            self._own.signing_key(origin),
            method,
            url,
            ascii_domain(origin),
            ascii_domain(destination),
            int(self._clock.now()),
            body,
            coding=coding,
        )
        fetched = await self._fetcher.send(destination, method, url, signed.headers, body, self._seconds)
        return fetched, await self._proven(destination, method, url, signed, fetched)

    async def _proven(self, destination: str, method: str, url: str, request: Signed, fetched: Fetched) -> bool:
        try:
            answer = read_answer(fetched.status, fetched.headers, fetched.body, method, url, request.signature)
            answer.check_time(self._clock.now())
            key = await self._peers.find(destination, answer.key_id, ours=True)
            if key is None or not key.in_use(answer.created):
                raise SignatureRefused("unknown key")
            answer.verify(key.public)
        except SignatureRefused as error:
            if fetched.status in (200, 204, 403, 409):
                log.warning("answer of a peer is not proven", destination=destination, reason=str(error))
            return False
        return True

    def _refused(self, parcel: Parcel, fetched: Fetched, proven: bool) -> Receipt:
        problem = problems.read_problem(fetched.body)
        name = problem.name if problem is not None else ""
        reason = f"answered {fetched.status} {name}".strip()
        if fetched.status == 413:
            return TooLarge()
        if proven and problem is not None:
            if name == problems.POLICY:
                return Refused()
            if name in (problems.NUMBERS, problems.RESTORED):
                return Misnumbered()
            if name == problems.TRANSACTION_NUMBER and problem.last is not None:
                pair = (parcel.origin, parcel.destination)
                self._last[pair] = max(self._last[pair], problem.last)
        return Retry(reason, _retry_after(fetched))


def encode(parcel: Parcel) -> bytes:
    """The body of a transaction."""
    items = [
        Item(number, void=cast(Reason, row.void))
        if row.void
        else Item(number, str(row.id), (row.payload or b"").decode())
        for number, row in enumerate(parcel.claim.rows, parcel.claim.first)
    ]
    return envelope.write(
        Batch(
            origin=ascii_domain(parcel.origin),
            destination=ascii_domain(parcel.destination),
            epoch=parcel.epoch,
            previous_epoch=parcel.previous_epoch,
            stanzas=items,
            passing=[one.payload.decode() for one in parcel.claim.passing],
        )
    )


def _delivered(body: bytes) -> Receipt:
    try:
        answer = envelope.read_answer(body)
    except EnvelopeRefused as error:
        return Retry(str(error))
    return Delivered(answer.epoch, answer.accepted, {entry.seq: entry.error for entry in answer.rejected})


def _retry_after(fetched: Fetched) -> float | None:
    for name, value in fetched.headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 8:
            return float(value)
    return None
