"""Owners answer subscription requests by a form in a message (XEP-0060 s8.6)."""

import pytest

from homeserver.domain.messages import Kind, Message, Stored
from homeserver.domain.pubsub import SubscriptionState
from homeserver.protocol.jid import JID
from homeserver.xmpp.pubsub_approvals import Approvals
from tests.kit.pubsub import SERVICE, create, done
from tests.kit.world import World


def answer(sender: JID, to: str, allow: str, node: str = "n", who: str = "bob@a.example") -> Message:
    field = "<field var='{}'><value>{}</value></field>"
    form = "".join(
        field.format(name, value)
        for name, value in (
            ("FORM_TYPE", "http://jabber.org/protocol/pubsub#subscribe_authorization"),
            ("pubsub#node", node),
            ("pubsub#subscriber_jid", who),
            ("pubsub#allow", allow),
        )
    )
    text = f"<message from='{sender}' to='{to}'><x xmlns='jabber:x:data' type='submit'>{form}</x></message>"
    return Message(sender, JID.parse(to), Kind.NORMAL, 0, None, None, text.encode())


@pytest.mark.parametrize("host", ["alice@a.example", SERVICE])
@pytest.mark.parametrize(("allow", "expected"), [("true", [SubscriptionState.SUBSCRIBED]), ("0", [])])
async def test_the_owner_decides(server: World, host: str, allow: str, expected: list[SubscriptionState]) -> None:
    alice, bob = await server.session("alice"), await server.session("bob")
    await done(server, alice, create("n", access_model="authorize"), host)
    await done(server, bob, "<subscribe node='n' jid='bob@a.example'/>", host)
    approvals, jid = Approvals(server.pubsub), JID.parse(host)

    async def states() -> list[SubscriptionState]:
        await approvals.settle()
        return [one.state for _, one in await server.pubsub.subscriptions.own(jid, bob.jid)]

    for wrong in (
        answer(bob.jid, host, "true"),
        answer(alice.jid, host, "maybe"),
        answer(alice.jid, host, "true", node="none"),
        answer(alice.jid, host, "true", who="@"),
    ):
        assert approvals.take(jid, wrong)
    assert await states() == [SubscriptionState.PENDING]
    assert not approvals.take(jid, Message(alice.jid, jid, Kind.NORMAL, 0, None, None, b"<message/>"))
    decision = answer(alice.jid, host, allow)
    if jid.local:
        approvals.stored(Stored(1, 1, decision), alice.account, alice.account)
    else:
        approvals.take(jid, decision)
    assert await states() == expected


async def test_only_a_message_to_oneself_decides(server: World) -> None:
    alice, bob = await server.session("alice"), await server.session("bob")
    await done(server, alice, create("n", access_model="authorize"))
    await done(server, bob, "<subscribe node='n' jid='bob@a.example'/>", "alice@a.example")
    approvals = Approvals(server.pubsub)
    approvals.stored(Stored(1, 1, answer(alice.jid, "bob@a.example", "true")), alice.account, bob.account)
    await approvals.settle()
    [(_, found)] = await server.pubsub.subscriptions.own(alice.account.jid, bob.jid)
    assert found.state is SubscriptionState.PENDING
