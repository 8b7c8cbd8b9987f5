"""An account's life over one kind of connection: made before login, used, removed (XEP-0077)."""

import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode
from tests.e2e.test_contacts import ask
from tests.kit.raw import LoginFailed, RawClient, StreamClosed
from tests.kit.server import Account


def query(kind: str, stanza_id: str, content: str) -> str:
    return f"<iq type='{kind}' id='{stanza_id}'><query xmlns='{ns.REGISTER}'>{content}</query></iq>"


async def test_an_account_is_made_used_and_removed(make_node: MakeNode) -> None:
    node = make_node([], extra={"accounts": {"registration": "open"}})
    await node.start()
    account = Account("bill@parley.example", "Calliope 99")
    client = RawClient(node.endpoint)
    features = await client.open()
    assert features.find(f"{{{ns.REGISTER_FEATURE}}}register") is not None
    form = await ask(client, query("get", "r1", ""), "r1")
    assert form.find(f"{{{ns.REGISTER}}}query/{{{ns.REGISTER}}}password") is not None
    content = f"<username>bill</username><password>{account.password}</password>"
    assert (await ask(client, query("set", "r2", content), "r2")).get("type") == "result"
    await client.authenticate(account)
    await client.bind("x")
    assert (await ask(client, query("set", "r3", "<remove/>"), "r3")).get("type") == "result"
    with pytest.raises(StreamClosed) as closed:
        await client.next()
    assert closed.value.condition == "not-authorized"
    client.abort()

    again = RawClient(node.endpoint)
    with pytest.raises(LoginFailed):
        await again.login(account)
    again.abort()
