"""Tokens: the lives of access and refresh tokens, what revokes them, and what no forger gets past."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.settings import AccountSettings, TokenSettings
from homeserver.domain.errors import NotAuthorized, NotFound
from homeserver.services.accounts import Accounts
from homeserver.services.tokens import AUDIENCE, KEY_PREFIX, Tokens
from homeserver.storage import accounts as account_storage
from tests.kit.clocks import FakeClock
from tests.kit.stores import PlainDatabase

ISSUER = "https://a.example"


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.database = PlainDatabase()
        settings = AccountSettings(registration="open", scram_iterations=4096)
        self.accounts = Accounts(self.database, settings, self.clock, ("a.example",))
        self.tokens = Tokens(self.database, TokenSettings(), self.clock, self.accounts, ISSUER)


@pytest.fixture
async def world():
    made = World()
    await made.accounts.start()
    await made.tokens.start()
    made.alice = await made.accounts.register("alice", "a.example", "password")
    return made


async def test_an_access_token_names_account_and_device_until_it_expires(world):
    grant = await world.tokens.issue(world.alice, None, "phone", "app 1")
    caller = await world.tokens.verify(grant.access_token)
    assert (caller.account, caller.device) == (world.alice, grant.device.id)
    world.clock.advance(grant.expires_in - 1)
    await world.tokens.verify(grant.access_token)
    world.clock.advance(1)
    with pytest.raises(NotAuthorized):
        await world.tokens.verify(grant.access_token)


async def test_it_is_valid_after_a_restart_and_a_new_key(world):
    grant = await world.tokens.issue(world.alice, None, "", "")
    await world.tokens.rotate_key()
    after = Tokens(world.database, TokenSettings(), world.clock, world.accounts, ISSUER)
    await after.start()
    assert (await after.verify(grant.access_token)).device == grant.device.id


async def test_refresh_rotates_and_a_second_use_logs_the_device_out(world):
    dropped: list[str] = []
    world.tokens.when_dropped(dropped.extend)
    first = await world.tokens.issue(world.alice, None, "", "")
    second = await world.tokens.refresh(first.refresh_token)
    assert second.device.id == first.device.id
    assert second.refresh_token != first.refresh_token
    with pytest.raises(NotAuthorized):
        await world.tokens.refresh(first.refresh_token)
    assert dropped == [first.device.id]
    for token in (first.access_token, second.access_token):
        with pytest.raises(NotAuthorized):
            await world.tokens.verify(token)
    with pytest.raises(NotAuthorized):
        await world.tokens.refresh(second.refresh_token)


async def test_a_device_that_does_nothing_is_logged_out(world):
    grant = await world.tokens.issue(world.alice, None, "", "")
    world.clock.advance(TokenSettings().refresh_lifetime + 1)
    with pytest.raises(NotAuthorized):
        await world.tokens.refresh(grant.refresh_token)
    await world.tokens.purge()
    assert await world.tokens.devices(world.alice) == []


async def test_logout_ends_one_device(world):
    phone = await world.tokens.issue(world.alice, None, "phone", "")
    desk = await world.tokens.issue(world.alice, None, "desk", "")
    await world.tokens.revoke(world.alice, phone.device.id)
    with pytest.raises(NotAuthorized):
        await world.tokens.verify(phone.access_token)
    with pytest.raises(NotAuthorized):
        await world.tokens.refresh(phone.refresh_token)
    await world.tokens.verify(desk.access_token)
    assert [device.name for device in await world.tokens.devices(world.alice)] == ["desk"]


async def test_nobody_revokes_the_device_of_another(world):
    bob = await world.accounts.register("bob", "a.example", "password")
    phone = await world.tokens.issue(world.alice, None, "phone", "")
    with pytest.raises(NotFound):
        await world.tokens.revoke(bob, phone.device.id)
    taken = await world.tokens.issue(bob, phone.device.id, "", "")
    assert taken.device.id != phone.device.id
    await world.tokens.verify(phone.access_token)


async def test_a_device_keeps_its_id_at_the_next_login(world):
    first = await world.tokens.issue(world.alice, None, "phone", "")
    second = await world.tokens.issue(world.alice, first.device.id, "", "")
    assert (second.device.id, second.device.name) == (first.device.id, "phone")
    with pytest.raises(NotAuthorized):
        await world.tokens.refresh(first.refresh_token)


@pytest.mark.parametrize("ending", ["password", "disable", "delete"])
async def test_what_ends_the_tokens_of_an_account(world, ending):
    grant = await world.tokens.issue(world.alice, None, "", "")
    if ending == "password":
        await world.accounts.change_password(world.alice, "new password")
    else:
        await getattr(world.accounts, ending)("alice@a.example")
    with pytest.raises(NotAuthorized):
        await world.tokens.verify(grant.access_token)
    with pytest.raises(NotAuthorized):
        await world.tokens.refresh(grant.refresh_token)


async def test_positions_only_move_forward(world):
    grant = await world.tokens.issue(world.alice, None, "", "")
    assert await world.tokens.position(grant.device.id) is None
    await world.tokens.reached(grant.device.id, 10)
    await world.tokens.reached(grant.device.id, 7)
    assert await world.tokens.position(grant.device.id) == 10


def _segment(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


async def test_forged_tokens(world):
    grant = await world.tokens.issue(world.alice, None, "", "")
    good = grant.access_token
    header, payload, signature = good.split(".")
    ((name, key, _),) = await world.database.read(account_storage.secrets_of, KEY_PREFIX)
    kid = name.removeprefix(KEY_PREFIX)
    now = int(world.clock.now())
    claims = jwt.decode(good, options={"verify_signature": False})
    pair = Ed25519PrivateKey.generate()
    public = pair.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    private = pair.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    def signed(changes: dict[str, object], drop: str = "", **more: object) -> str:
        wanted = {**claims, **changes}
        wanted.pop(drop, None)
        return jwt.encode(wanted, key, "HS256", {"kid": kid, **more})

    twice = f'{{"sub":"999",{json.dumps(claims)[1:]}'
    forged = {
        "alg none": f"{_segment({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "alg none with our kid": f"{_segment({'alg': 'none', 'kid': kid, 'typ': 'JWT'})}.{payload}.",
        "no signature": f"{header}.{payload}.",
        "signed with a public key": jwt.encode(claims, public, "HS256", {"kid": kid}),
        "another algorithm": jwt.encode(claims, private, "EdDSA", {"kid": kid}),
        "kid is a path": jwt.encode(claims, key, "HS256", {"kid": "../../../../dev/null"}),
        "kid is a URL": jwt.encode(claims, key, "HS256", {"kid": "https://evil.example/key"}),
        "jku": signed({}, jku="https://evil.example/keys"),
        "embedded jwk": signed({}, jwk={"kty": "oct", "k": _segment("evil")}),
        "crit": signed({}, crit=["exp"]),
        "expired": signed({"exp": now - 1}),
        "not yet": signed({"nbf": now + 600}),
        "other audience": signed({"aud": "other"}),
        "other issuer": signed({"iss": "https://b.example"}),
        "no expiry": signed({}, drop="exp"),
        "no audience": signed({}, drop="aud"),
        "no device": signed({}, drop="sid"),
        "other account": signed({"sub": "999"}),
        "subject no number": signed({"sub": "alice"}),
        "expiry as text": signed({"exp": "9999999999"}),
        "huge": good + "A" * 100_000,
        "duplicate claims": f"{header}.{_segment(twice)}.{signature}",
        "changed payload": f"{header}.{_segment({**claims, 'sub': '2'})}.{signature}",
        "empty": "",
        "dots": "..",
        "not ASCII": "ä.ö.ü",
    }
    assert claims["aud"] == AUDIENCE
    passed = []
    for what, token in forged.items():
        try:
            await world.tokens.verify(token)
        except NotAuthorized:
            continue
        passed.append(what)
    assert passed == []
    await world.tokens.verify(good)
