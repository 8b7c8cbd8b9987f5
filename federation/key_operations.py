"""What an operator may do with the signing keys, named by verbs like the other operations."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from federation.http.own_keys import OwnKeys
from homeserver.domain.errors import NotFound
from homeserver.services.clock import Clock

Verbs = dict[str, Callable[[Mapping[str, Any]], Awaitable[Any]]]


class KeyOperations:
    """Lists, rotates and revokes. Answers are values that JSON can carry. Raises `NotFound`."""

    def __init__(self, own: OwnKeys, clock: Clock) -> None:
        self._own = own
        self._clock = clock

    def verbs(self) -> Verbs:
        """The operations by name; each takes its arguments by name."""
        return {"keys.list": self._list, "keys.rotate": self._rotate, "keys.revoke": self._revoke}

    async def _list(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        only, now = arguments.get("domain"), self._clock.now()
        domains = [self._domain(arguments)] if only is not None else self._own.domains
        found = []
        for domain in domains:
            signing = self._own.signing_key(domain).id
            for key in self._own.published(domain):
                state = (
                    "ended"
                    if key.ended(now)
                    else "signs"
                    if key.id == signing
                    else "comes"
                    if key.not_before > now
                    else "valid"
                )
                found.append(
                    {
                        "domain": domain,
                        "id": key.id,
                        "state": state,
                        "not_before": key.not_before,
                        "not_after": key.not_after,
                        "public": base64.b64encode(key.public).decode(),
                    }
                )
        return found

    async def _rotate(self, arguments: Mapping[str, Any]) -> str:
        return self._own.rotate(self._domain(arguments))

    async def _revoke(self, arguments: Mapping[str, Any]) -> str:
        domain, key_id = self._domain(arguments), arguments["key"]
        if not any(key.id == key_id for key in self._own.published(domain)):
            raise NotFound(f"{domain} has no key {key_id}")
        self._own.revoke(domain, key_id)
        return self._own.signing_key(domain).id

    def _domain(self, arguments: Mapping[str, Any]) -> str:
        domain: str = arguments["domain"]
        if domain not in self._own.domains:
            raise NotFound(f"{domain} is not a domain of this server")
        return domain
