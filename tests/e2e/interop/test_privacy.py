"""Blocking, reports and archive preferences with slixmpp, between two servers."""

from typing import Any

import pytest
import slixmpp
from slixmpp.exceptions import IqError

from tests.e2e.interop.test_rules import device, refusals
from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

PRIVATE = (*PLUGINS, "xep_0191", "xep_0377", "xep_0441")


def private(node: ParleyServer, name: str, resource: str = "") -> Slix:
    return device(node, name, resource, plugins=PRIVATE)


async def test_a_contact_on_another_server_is_blocked_and_unblocked(one: ParleyServer, two: ParleyServer) -> None:
    async with private(one, "ann") as ann, device(two, "bob") as bob:
        await ann.befriend(bob)
        told: list[Any] = []
        ann.xmpp.add_event_handler("blocked", told.append)
        ann.xmpp.add_event_handler("blocked", lambda _: ann._moved.set())
        assert await ann.plugin(191).get_blocked_jids(timeout=20) == set()
        await ann.plugin(191).block(slixmpp.JID("bob@two.example"), timeout=20)
        await ann.until(lambda: told)
        await bob.sees(ann.jid, "unavailable")
        bob.say("ann@one.example", "are you there?")
        await bob.until(lambda: refusals(bob))
        assert refusals(bob) == [("ann@one.example", "service-unavailable")]
        with pytest.raises(IqError) as refused:
            await bob.plugin(199).send_ping(slixmpp.JID(ann.jid), timeout=20)
        assert refused.value.condition == "service-unavailable"
        ann.say("bob@two.example", "no")
        await ann.until(lambda: refusals(ann))
        assert refusals(ann) == [("bob@two.example", "not-acceptable")]
        async with private(one, "ann", "other") as other:
            assert await other.plugin(191).get_blocked_jids(timeout=20) == {slixmpp.JID("bob@two.example")}
            bob.presences.clear()
            await other.plugin(191).unblock(slixmpp.JID("bob@two.example"), timeout=20)
            await bob.sees(ann.jid, "available")
            bob.say("ann@one.example", "and now?")
            await other.said("and now?")
            assert await ann.texts("bob@two.example") == ["and now?"]


async def test_a_report(one: ParleyServer, two: ParleyServer) -> None:
    async with private(one, "cat") as cat, device(two, "dan") as dan:
        dan.say("cat@one.example", "buy this")
        await cat.said("buy this")
        stanza_id = cat.messages[0]["stanza_id"]["id"]
        iq = cat.xmpp.make_iq_set()
        text = (
            "<block xmlns='urn:xmpp:blocking'><item jid='dan@two.example'>"
            "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>"
            f"<stanza-id xmlns='urn:xmpp:sid:0' by='cat@one.example' id='{stanza_id}'/><text>spam!</text></report>"
            "</item></block>"
        )
        iq.xml.append(slixmpp.xmlstream.ET.fromstring(text))
        await iq.send(timeout=20)
        listed = await one.run_command("reports", "list")
        assert "cat@one.example reports dan@two.example\turn:xmpp:reporting:spam\t1 messages" in listed
        number = listed.splitlines()[-1].partition("\t")[0]
        shown = await one.run_command("reports", "show", number)
        assert "    spam!" in shown
        assert "<body>buy this</body>" in shown
        await one.run_command("reports", "resolve", number, "--note", "warned")
        assert f"{number}\t" not in await one.run_command("reports", "list")
        assert "warned" in await one.run_command("reports", "show", number)


async def test_archive_preferences(one: ParleyServer, two: ParleyServer) -> None:
    async with private(one, "eve") as eve, device(two, "fay") as fay:
        assert await eve.plugin(441).get_preferences(timeout=20) == ("always", set(), set())
        await eve.plugin(441).set_preferences(default="always", never=[slixmpp.JID("fay@two.example")], timeout=20)
        eve.say("fay@two.example", "between us")
        await fay.said("between us")
        fay.say("eve@one.example", "of course")
        await eve.said("of course")
        assert await eve.texts() == []
        assert await fay.texts() == ["between us", "of course"]
        _, _, never = await eve.plugin(441).get_preferences(timeout=20)
        assert [str(jid) for jid in never] == ["fay@two.example"]
