"""STUN and TURN servers for calls, with credentials that end by themselves.

A TURN server that shares a secret with this one believes a username that begins with the time it is good for, and a
password derived from it (draft-uberti-behave-turn-rest-00 s2.2; coturn: ``use-auth-secret``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.feature_settings import ExternalServiceSettings
    from homeserver.domain.accounts import Account
    from homeserver.services.clock import Clock


@dataclass(frozen=True, slots=True)
class ExternalService:
    """A server outside, and how one account may use it. ``expires`` is in seconds since the epoch, with credentials."""

    type: str
    host: str
    port: int
    transport: str
    username: str | None = None
    password: str | None = None
    expires: int | None = None


class ExternalServices:
    """What the operator configured."""

    def __init__(self, settings: Sequence[ExternalServiceSettings], clock: Clock) -> None:
        self._settings = tuple(settings)
        self._clock = clock

    def reload(self, settings: Sequence[ExternalServiceSettings]) -> None:
        """Take over another list."""
        self._settings = tuple(settings)

    def offered(
        self, account: Account, kind: str | None = None, host: str | None = None, port: int | None = None
    ) -> list[ExternalService]:
        """The servers, all or of one type, host and port, in the order of the configuration, with fresh credentials."""
        return [
            self._service(found, account)
            for found in self._settings
            if kind in (None, found.type) and host in (None, found.host) and port in (None, found.port)
        ]

    def _service(self, found: ExternalServiceSettings, account: Account) -> ExternalService:
        if not found.secret:
            return ExternalService(found.type, found.host, found.port, found.transport)
        secret = found.secret.encode()
        expires = int(self._clock.now() + found.lifetime)
        # The username crosses networks in clear. It tells the operator who it is, and nobody else.
        who = base64.b32encode(hmac.digest(secret, account.jid.bare.encode(), hashlib.sha256)[:10]).decode().lower()
        username = f"{expires}:{who}"
        password = base64.b64encode(hmac.digest(secret, username.encode(), hashlib.sha1)).decode()
        return ExternalService(found.type, found.host, found.port, found.transport, username, password, expires)
