"""Devices of an account, and tokens of the JSON API: short-lived signed access tokens, rotating refresh tokens, and the devices they belong to."""

from __future__ import annotations

import base64
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
import structlog

from homeserver.domain.accounts import Account, AccountState, Device
from homeserver.domain.errors import NotAuthorized, NotFound
from homeserver.services.accounts import Accounts, Revocation, token_digest
from homeserver.storage import accounts as secret_storage
from homeserver.storage import devices as storage

if TYPE_CHECKING:
    from config.settings import TokenSettings
    from homeserver.services.clock import Clock
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

ALGORITHM: Final = "HS256"
"""The server alone makes and checks access tokens, so one secret key serves (RFC 7518 s3.2)."""
AUDIENCE: Final = "parley:v1"
KEY_PREFIX: Final = "jwt:"
KEY_BYTES: Final = 32
MAX_TOKEN: Final = 2048
MAX_DEVICES: Final = 50
CACHED_DEVICES: Final = 50_000
RECHECK: Final = 60.0
"""Seconds after which a device is looked up again: another node may have revoked it."""
CLAIMS: Final = ("iss", "aud", "sub", "sid", "iat", "exp", "jti")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login or refresh gives; ``expires_in`` is the life of the access token in seconds."""

    account: Account
    device: Device
    access_token: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request with an access token; ``expires`` in seconds since the epoch."""

    account: Account
    device: str
    expires: float


class Tokens:
    """Call `start` once before anything else."""

    def __init__(
        self, database: Database, settings: TokenSettings, clock: Clock, accounts: Accounts, issuer: str
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._accounts = accounts
        self._issuer = issuer
        self._keys: dict[str, bytes] = {}
        self._current = ("", b"")
        self._alive: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._drops = 0
        self._listeners: list[Callable[[tuple[str, ...]], None]] = []
        self._of_clients: list[Callable[[Account, str], None]] = []
        accounts.when_revoked(self._revoked)

    async def start(self) -> None:
        """Load the signing keys; the first start makes one."""
        await self._load()
        if not self._keys:
            await self.rotate_key()

    async def rotate_key(self) -> None:
        """Sign with a new key from now on. Tokens of the keys before it stay valid until they expire."""
        now = self._clock.now()
        known = await self._database.read(secret_storage.secrets_of, KEY_PREFIX)
        name = KEY_PREFIX + secrets.token_hex(4)
        await self._database.write(secret_storage.ensure_secret, name, secrets.token_bytes(KEY_BYTES), now)
        # A key made a token lifetime before its successor has no valid token left once two newer ones exist.
        for old, _, _ in known[:-1]:
            await self._database.write(secret_storage.drop_secret, old)
        await self._load()

    def when_dropped(self, listener: Callable[[tuple[str, ...]], None]) -> None:
        """Have ``listener`` called with the ids of devices that lost their tokens."""
        self._listeners.append(listener)

    def when_client_dropped(self, listener: Callable[[Account, str], None]) -> None:
        """Have ``listener`` called when an XMPP client was logged out, with the id of its user agent."""
        self._of_clients.append(listener)

    async def issue(self, account: Account, device: str | None, name: str, software: str) -> Grant:
        """Log a device in. ``device`` is the id the client was given before; one not its own is not taken."""
        now = self._clock.now()
        known = await self._database.read(storage.find, device) if device else None
        if known is None or known.account != account.id or known.client is not None:
            known = Device(secrets.token_hex(8), account.id, name, software, now, now)
        else:
            known = Device(known.id, account.id, name or known.name, software or known.software, known.created, now)
        refresh = secrets.token_urlsafe(32)
        expires = now + self._settings.refresh_lifetime
        dropped = await self._database.write(storage.upsert, known, token_digest(refresh), expires, MAX_DEVICES)
        self._forget(tuple(dropped))
        log.info("device logged in", account=account.jid.bare, device=known.id)
        return self._grant(account, known, refresh)

    async def refresh(self, token: str) -> Grant:
        """Exchange a refresh token for a new pair. Raises `NotAuthorized`.

        A token that was exchanged before is in two hands: its device is logged out (RFC 9700 s4.14.2).
        """
        now = self._clock.now()
        successor = secrets.token_urlsafe(32)
        expires = now + self._settings.refresh_lifetime
        device, good = await self._database.write(
            storage.rotate, token_digest(token), token_digest(successor), now, expires
        )
        if device is None:
            raise NotAuthorized("the refresh token is not valid")
        if not good:
            log.warning("refresh token used twice, device logged out", device=device.id, account=device.account)
            self._forget((device.id,))
            raise NotAuthorized("the refresh token is not valid")
        account = await self._accounts.by_id(device.account)
        if account is None:
            raise NotAuthorized("the refresh token is not valid")
        return self._grant(account, device, successor)

    async def verify(self, token: str) -> Caller:
        """Who holds this access token. Raises `NotAuthorized` for any other than a valid one of a live device."""
        claims = self._claims(token)
        device, account_id = claims["sid"], int(claims["sub"])
        known = self._alive.get(device)
        if known is None or self._clock.monotonic() - known[1] > RECHECK:
            known = await self._look_up(device)
        account = await self._accounts.by_id(account_id)
        if known[0] != account_id or account is None or account.state is not AccountState.ACTIVE:
            raise NotAuthorized("this device was logged out")
        return Caller(account, device, float(claims["exp"]))

    async def devices(self, account: Account) -> list[Device]:
        """The devices of an account, the one seen last first."""
        return await self._database.read(storage.listing, account.id)

    async def revoke(self, account: Account, device: str) -> None:
        """Log a device out: its tokens end, its sessions too. Raises `NotFound` when the account has no such device."""
        found = await self._database.read(storage.find, device)
        if found is None or found.account != account.id:
            raise NotFound("no such device")
        await self._database.write(storage.drop, (device,))
        log.info("device logged out", account=account.jid.bare, device=device)
        self._forget((device,))
        if found.client is not None:
            for listener in self._of_clients:
                listener(account, found.client)

    async def position(self, device: str) -> int | None:
        """The last message the device has processed, or None when it never said."""
        return await self._database.read(storage.position, device)

    async def reached(self, device: str, position: int) -> None:
        """Keep the position of a device; it only moves forward."""
        await self._database.write(storage.set_position, device, position, self._clock.now())

    async def purge(self) -> None:
        """Delete what has expired; to be called now and then."""
        now = self._clock.now()
        await self._database.write(storage.drop_expired, now, now - self._settings.refresh_lifetime)

    def _grant(self, account: Account, device: Device, refresh: str) -> Grant:
        now = int(self._clock.now())
        lifetime = int(self._settings.access_lifetime)
        kid, key = self._current
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": str(account.id),
            "sid": device.id,
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_hex(8),
        }
        access = jwt.encode(claims, key, ALGORITHM, {"kid": kid})
        self._remember(device.id, account.id)
        return Grant(account, device, access, refresh, lifetime)

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN:
            raise NotAuthorized("the access token is not valid")
        # A good header is one this server writes, byte for byte: nothing in a foreign one is ever looked at.
        key = self._keys.get(token.partition(".")[0])
        if key is None:
            raise NotAuthorized("the access token is not valid")
        options: Any = {"require": list(CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key, [ALGORITHM], options=options, audience=AUDIENCE, issuer=self._issuer
            )
        except (jwt.InvalidTokenError, ValueError) as error:
            raise NotAuthorized("the access token is not valid") from error
        now = self._clock.now()
        well_formed = isinstance(claims["exp"], int) and isinstance(claims["sid"], str) and claims["sub"].isdecimal()
        if not well_formed or claims["exp"] <= now or claims.get("nbf", now) > now:
            raise NotAuthorized("the access token has expired")
        return claims

    async def _look_up(self, device: str) -> tuple[int, float]:
        drops = self._drops
        found = await self._database.read(storage.find, device)
        if found is None:
            raise NotAuthorized("this device was logged out")
        if drops == self._drops:
            return self._remember(device, found.account)
        # Devices were dropped meanwhile, maybe this one: good for this request, too old to be kept.
        return found.account, 0.0

    async def _load(self) -> None:
        found = await self._database.read(secret_storage.secrets_of, KEY_PREFIX)
        self._keys = {_header(name.removeprefix(KEY_PREFIX)): value for name, value, _ in found}
        if found:
            name, value, _ = found[-1]
            self._current = (name.removeprefix(KEY_PREFIX), value)

    def _remember(self, device: str, account: int) -> tuple[int, float]:
        known = (account, self._clock.monotonic())
        self._alive[device] = known
        self._alive.move_to_end(device)
        if len(self._alive) > CACHED_DEVICES:
            self._alive.popitem(last=False)
        return known

    def _forget(self, devices: tuple[str, ...]) -> None:
        for device in devices:
            self._alive.pop(device, None)
        if devices:
            self._drops += 1
            for listener in self._listeners:
                listener(devices)

    def _revoked(self, revocation: Revocation) -> None:
        self._forget(revocation.devices)


def _header(kid: str) -> str:
    """The first segment of a token signed with key ``kid``, as `jwt.encode` writes it."""
    text = json.dumps({"alg": ALGORITHM, "kid": kid, "typ": "JWT"}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
