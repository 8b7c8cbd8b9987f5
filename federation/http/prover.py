"""Who sent a request: the one place where a signature from outside is believed."""

from dataclasses import dataclass

from federation.http.keys import KnownKey, PeerKeys
from federation.http.own_keys import OwnKeys
from federation.inbound import Origin
from federation.policy import Policy
from homeserver.protocol import problems
from homeserver.protocol.jid import InvalidJID, ascii_domain, prepare_domain
from homeserver.protocol.problems import Refusal
from homeserver.protocol.signing import RequestSignature, SignatureRefused
from homeserver.services.clock import Clock


@dataclass(frozen=True, slots=True)
class Proven:
    """A request whose origin is proved, for ``destination``, the hosted domain; its body is not yet looked at."""

    origin: Origin
    destination: str
    signature: RequestSignature


class Prover:
    """Checks destination, time, policy, key and signature, in this order."""

    def __init__(self, own: OwnKeys, peers: PeerKeys, policy: Policy, clock: Clock) -> None:
        self.own = own
        self._peers = peers
        self._policy = policy
        self._clock = clock

    async def prove(self, signature: RequestSignature) -> Proven:
        """Raises `SignatureRefused` or `Refusal`."""
        destination = self.owner(signature.destination)
        if destination is None:
            raise Refusal(problems.UNKNOWN_DESTINATION, "that domain is not served here")
        signature.check_time(self._clock.now())
        try:
            origin = prepare_domain(signature.origin)
        except InvalidJID as error:
            raise SignatureRefused("the origin is not a domain") from error
        if ascii_domain(origin) != signature.origin or self.own.owner(origin) is not None:
            raise SignatureRefused("the origin is not written as it must be, or is one of ours")
        if not self._policy.permits(origin):
            raise Refusal(problems.POLICY, "this server does not exchange stanzas with yours")
        key = await self._key(origin, signature)
        signature.verify(key.public)
        return Proven(Origin(origin, key.names), destination, signature)

    def owner(self, name: str) -> str | None:
        """The hosted domain that speaks for ``name``, which must be written in its one A-label form."""
        try:
            prepared = prepare_domain(name)
            return self.own.owner(prepared) if ascii_domain(prepared) == name else None
        except (InvalidJID, UnicodeError):
            return None

    async def _key(self, origin: str, signature: RequestSignature) -> KnownKey:
        key = self._peers.peek(origin, signature.key_id) or await self._peers.find(origin, signature.key_id)
        if key is None or not key.in_use(signature.created):
            raise SignatureRefused("unknown key, or not in use")
        if key.domain != origin:
            raise SignatureRefused("the key is of another domain")
        return key
