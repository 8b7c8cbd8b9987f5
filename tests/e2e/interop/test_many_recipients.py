"""One message for several addresses with slixmpp, over two servers (XEP-0033); services of another server."""

import asyncio

import pytest
from slixmpp import JID
from slixmpp.exceptions import IqError

from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

WITH_ADDRESSES = (*PLUGINS, "xep_0033")


def device(node: ParleyServer, name: str, resource: str = "") -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint_for("starttls"), account, resource, plugins=WITH_ADDRESSES)


async def test_to_both_servers_and_into_every_conversation(one: ParleyServer, two: ParleyServer) -> None:
    async with (
        device(one, "ann", "a") as ann,
        device(one, "ann", "b") as other,
        device(one, "bob") as bob,
        device(two, "ann") as far,
        device(two, "bob") as blind,
    ):
        info = await ann.plugin(30).get_info(JID("one.example"), timeout=10)
        assert "http://jabber.org/protocol/address" in info["disco_info"]["features"]
        message = ann.xmpp.make_message(mto=JID("one.example"), mbody="news", mtype="chat")
        message["addresses"].add_address(atype="to", jid=JID("bob@one.example"))
        message["addresses"].add_address(atype="cc", jid=JID("ann@two.example"))
        message["addresses"].add_address(atype="bcc", jid=JID("bob@two.example"))
        message["addresses"].add_address(atype="to", jid=JID("nobody@one.example"))
        message.send()
        await ann.settled()
        for session in (bob, far, blind):
            await session.until(lambda session=session: session.bodies == ["news"])
            shown = {str(one["jid"]): one["delivered"] for one in session.messages[0]["addresses"]}
            assert ("bob@two.example" in shown) == (session is blind)
            assert shown["bob@one.example"]
        await ann.until(lambda: any(found["type"] == "error" for found in ann.messages))
        (error,) = [found for found in ann.messages if found["type"] == "error"]
        assert (str(error["from"]), error["error"]["condition"]) == ("nobody@one.example", "service-unavailable")
        for peer in ("bob@one.example", "ann@two.example", "bob@two.example"):
            assert await ann.texts(peer) == ["news"]
        await other.until(lambda: len(other.copies) >= 3)
        assert sorted(str(copy["to"]) for direction, copy in other.copies if direction == "sent") == [
            "ann@two.example",
            "bob@one.example",
            "bob@two.example",
        ]


async def test_the_server_of_others_is_not_used_for_it(one: ParleyServer, two: ParleyServer) -> None:
    """S-78: only its own accounts may use the service of a domain."""
    async with device(one, "cat") as cat, device(two, "cat") as far:
        message = far.xmpp.make_message(mto=JID("one.example"), mbody="spam", mtype="chat")
        message["addresses"].add_address(atype="to", jid=JID("cat@one.example"))
        message.send()
        await far.until(lambda: far.messages)
        assert far.messages[0]["error"]["condition"] == "forbidden"
        await cat.settled()
        assert cat.bodies == []


async def test_services_of_another_server_answer(one: ParleyServer, two: ParleyServer) -> None:
    """What is attached below a domain is reached over the federation, and is signed for by the domain."""
    async with device(two, "dan") as far:
        for service, category in (("pubsub.one.example", "pubsub"), ("upload.one.example", "store")):
            info = await far.plugin(30).get_info(JID(service), timeout=10)
            assert category in {identity[0] for identity in info["disco_info"]["identities"]}
        with pytest.raises(IqError) as refused:
            await far.plugin(199).send_ping(JID("upload.one.example/x"), timeout=10)
        assert refused.value.condition == "service-unavailable"
        far.say("x@pubsub.one.example", "hello")
        await far.until(lambda: far.messages)
        assert far.messages[0]["error"]["condition"] == "service-unavailable"
        await asyncio.sleep(0)
