"""Credentials that a TURN server can check by itself."""

import base64
import hashlib
import hmac

from config.feature_settings import ExternalServiceSettings
from homeserver.domain.accounts import Account
from homeserver.protocol.jid import JID
from homeserver.services.external_services import ExternalServices
from tests.kit.clocks import FakeClock

ANN = Account(1, JID("ann", "a.example"))
BOB = Account(2, JID("bob", "a.example"))
STUN = ExternalServiceSettings(type="stun", host="stun.a.example")
TURN = ExternalServiceSettings(type="turn", host="turn.a.example", secret="s", lifetime=600.0)
TLS = ExternalServiceSettings(type="turns", host="turn.a.example", port=5349, transport="tcp", secret="t")


def test_the_password_follows_from_the_username_and_the_secret() -> None:
    clock = FakeClock()
    (found,) = ExternalServices([TURN], clock).offered(ANN)
    assert found.expires == int(clock.now() + 600)
    assert found.username is not None
    assert found.username.partition(":")[0] == str(found.expires)
    expected = base64.b64encode(hmac.new(b"s", found.username.encode(), hashlib.sha1).digest()).decode()
    assert found.password == expected


def test_an_account_has_one_name_that_tells_strangers_nothing() -> None:
    services = ExternalServices([TURN, TLS], FakeClock())
    names = [(found.username or "").partition(":")[2] for each in (ANN, ANN, BOB) for found in services.offered(each)]
    assert len(set(names)) == 4
    assert names[:2] == names[2:4]
    assert not any("ann" in name or "bob" in name for name in names)


def test_services_are_chosen_by_type_host_and_port() -> None:
    services = ExternalServices([STUN, TURN, TLS], FakeClock())
    assert [found.type for found in services.offered(ANN)] == ["stun", "turn", "turns"]
    assert [found.port for found in services.offered(ANN, "turns", "turn.a.example", 5349)] == [5349]
    assert services.offered(ANN, "turns", port=1) == []
    (stun,) = services.offered(ANN, host="stun.a.example")
    assert (stun.username, stun.password, stun.expires) == (None, None, None)
    services.reload([])
    assert services.offered(ANN) == []
