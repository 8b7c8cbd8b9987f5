"""Accounts, logins and devices."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from client_api.http.endpoint import Call, endpoint
from homeserver.domain.accounts import Account
from homeserver.domain.errors import (
    Conflict,
    Forbidden,
    NotAcceptable,
    NotAuthorized,
    NotFound,
    RateLimited,
    RegistrationClosed,
)
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.services.accounts import Accounts
from homeserver.services.limits import Limit, Limits, address_key
from homeserver.services.registrations import Registrations
from homeserver.services.tokens import Caller, Grant, Tokens

Username = Annotated[str, Meta(min_length=1, max_length=1023, description="alice, or alice@example.org")]
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
Domain = Annotated[str, Meta(min_length=1, max_length=255)]
Token = Annotated[str, Meta(min_length=1, max_length=2048)]
Label = Annotated[str, Meta(max_length=200)]
Id = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_WRONG: Final = "wrong name or password"


class NewAccount(Struct, forbid_unknown_fields=True):
    """An account to be made."""

    username: Username
    password: Password
    domain: Domain | None = None
    invite: Token | None = None


class AccountInfo(Struct):
    """An account."""

    user_id: Id
    jid: str
    role: str = "member"


class DeviceInfo(Struct, forbid_unknown_fields=True):
    """What a client says of itself at login. ``id`` is what it was given before."""

    id: Annotated[str, Meta(max_length=64)] | None = None
    name: Label = ""
    software: Label = ""


class Login(Struct, forbid_unknown_fields=True):
    """Name and password, and which device this is."""

    username: Username
    password: Password
    domain: Domain | None = None
    device: DeviceInfo | None = None


class SessionGrant(Struct):
    """Tokens. The access token goes into ``Authorization: Bearer``; the refresh token is good for one use."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    device_id: str
    user_id: Id
    jid: str


class Refresh(Struct, forbid_unknown_fields=True):
    """A refresh token."""

    refresh_token: Token


class NewPassword(Struct, forbid_unknown_fields=True):
    """The password now and the one to come."""

    password: Password
    new_password: Password


class Confirmation(Struct, forbid_unknown_fields=True):
    """The password, to confirm."""

    password: Password


class DeviceEntry(Struct):
    """A device that is logged in; ``protocol`` is ``json`` or ``xmpp``."""

    id: str
    name: str
    software: str
    created_at: str
    last_seen_at: str
    current: bool
    protocol: str


class DeviceList(Struct):
    """Devices, the one seen last first."""

    devices: list[DeviceEntry]


class Auth:
    """Registration and login, with the limits that hold for both."""

    def __init__(self, accounts: Accounts, registrations: Registrations, tokens: Tokens, limits: Limits) -> None:
        self._accounts = accounts
        self._registrations = registrations
        self._tokens = tokens
        self._limits = limits

    @endpoint(
        "POST",
        "/v1/accounts",
        body=NewAccount,
        returns=AccountInfo,
        status=201,
        auth=False,
        errors=(RegistrationClosed, Forbidden, NotAcceptable, NotFound, Conflict),
    )
    async def create_account(self, call: Call, body: NewAccount) -> AccountInfo:
        """Make an account."""
        made = await self.register(call.address, body.username, body.domain, body.password, body.invite)
        return AccountInfo(made.id, made.jid.bare, made.role.value)

    @endpoint("POST", "/v1/sessions", body=Login, returns=SessionGrant, status=201, auth=False, errors=(NotAuthorized,))
    async def create_session(self, call: Call, body: Login) -> SessionGrant:
        """Log a device in."""
        return _grant(await self.login(call.address, body))

    @endpoint("POST", "/v1/sessions/refresh", body=Refresh, returns=SessionGrant, auth=False, errors=(NotAuthorized,))
    async def refresh_session(self, body: Refresh) -> SessionGrant:
        """Exchange a refresh token for new tokens."""
        return _grant(await self._tokens.refresh(body.refresh_token))

    @endpoint("DELETE", "/v1/sessions/current", status=204, errors=(NotFound,))
    async def delete_session(self, caller: Caller) -> None:
        """Log this device out."""
        await self._tokens.revoke(caller.account, caller.device)

    @endpoint("GET", "/v1/account", returns=AccountInfo)
    async def show_account(self, caller: Caller) -> AccountInfo:
        """The account of the access token."""
        return AccountInfo(caller.account.id, caller.account.jid.bare, caller.account.role.value)

    @endpoint("PUT", "/v1/account/password", body=NewPassword, returns=SessionGrant, errors=(NotAcceptable,))
    async def change_password(self, caller: Caller, call: Call, body: NewPassword) -> SessionGrant:
        """Change the password; all other devices are logged out."""
        await self._confirm(call.address, caller.account.jid.bare, body.password)
        await self._accounts.change_password(caller.account, body.new_password, caller.device)
        return _grant(await self._tokens.issue(caller.account, caller.device, "", ""))

    @endpoint("POST", "/v1/account/deletion", body=Confirmation, status=204, errors=(NotFound,))
    async def delete_account(self, caller: Caller, call: Call, body: Confirmation) -> None:
        """Remove the account. It is deleted when its grace period is over; its name stays taken."""
        await self._confirm(call.address, caller.account.jid.bare, body.password)
        await self._accounts.remove(caller.account)

    @endpoint("GET", "/v1/devices", returns=DeviceList)
    async def list_devices(self, caller: Caller) -> DeviceList:
        """The devices that are logged in, XMPP clients included."""
        found = await self._tokens.devices(caller.account)
        return DeviceList(
            [
                DeviceEntry(
                    device.id,
                    device.name,
                    device.software,
                    time_text(device.created),
                    time_text(device.last_seen),
                    device.id == caller.device,
                    "json" if device.client is None else "xmpp",
                )
                for device in found
            ]
        )

    @endpoint("DELETE", "/v1/devices/{device_id}", status=204, errors=(NotFound,))
    async def delete_device(self, caller: Caller, device_id: str) -> None:
        """Log a device out."""
        await self._tokens.revoke(caller.account, device_id)

    async def register(
        self, address: str, username: str, domain: str | None, password: str, invite: str | None
    ) -> Account:
        """Make an account for somebody at a network address. Raises `RateLimited` and what `Registrations.register`
        does."""
        local, chosen = self._split(username, domain)
        if not self._limits.exempt(address):
            wait = self._limits.take(Limit.REGISTRATION, address_key(address))
            if wait:
                raise RateLimited("too many new accounts from this address", wait)
        return await self._registrations.register(local, chosen, password, invite)

    async def login(self, address: str, body: Login) -> Grant:
        """Check a password and log the device in. Raises `NotAuthorized`, `RateLimited`."""
        local, domain = self._split(body.username, body.domain)
        try:
            bare = JID.parse(f"{local}@{domain}").bare
        except InvalidJID as error:
            raise NotAuthorized(_WRONG) from error
        account = await self._confirm(address, bare, body.password)
        device = body.device or DeviceInfo()
        return await self._tokens.issue(account, device.id, device.name, device.software)

    async def _confirm(self, address: str, bare: str, password: str) -> Account:
        wait = self._limits.login_wait(address, bare)
        if wait:
            raise RateLimited("too many failed logins", wait)
        try:
            account = await self._accounts.check_password(bare, password)
        except NotAuthorized:
            self._limits.login_failed(address, bare)
            raise
        self._limits.login_accepted()
        return account

    def _split(self, username: str, domain: str | None) -> tuple[str, str]:
        local, at, named = username.rpartition("@")
        if at:
            return local, named.lower()
        return username, (domain or self._accounts.domains[0]).lower()


def _grant(grant: Grant) -> SessionGrant:
    return SessionGrant(
        grant.access_token,
        "Bearer",
        grant.expires_in,
        grant.refresh_token,
        grant.device.id,
        grant.account.id,
        grant.account.jid.bare,
    )


def time_text(seconds: float) -> str:
    """A time as JSON and pages have it: UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
