"""slixmpp resumes its session with a server that was killed and started again."""

from tests.e2e.conftest import MakeNode
from tests.kit.slix import Slix


async def test_a_session_resumed_after_kill_9_shows_what_it_showed(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    ann, bob = node.accounts
    async with Slix(node.endpoint, ann, "phone") as phone:
        async with Slix(node.endpoint, bob) as other:
            await phone.befriend(other)
            phone.xmpp.send_presence(pshow="away", pstatus="on the train", ppriority=-1)
            await other.sees(phone.jid, "away")
            await phone.settled()  # what was not acknowledged need not outlive the server
        await node.kill9()
        await phone.cut_off()
        await node.start()
        phone.xmpp.connect(node.endpoint.host, node.endpoint.port)
        await phone.until(lambda: phone.resumed == 1)
        async with Slix(node.endpoint, bob) as other:
            seen = await other.sees(phone.jid, "away")
            assert (seen["status"], seen["priority"]) == ("on the train", -1)
            other.say("ann@parley.example", "waits, for the priority is negative")
            other.say(phone.jid, "direct")
            await phone.said("direct")
