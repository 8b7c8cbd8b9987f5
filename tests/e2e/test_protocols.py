"""A running server advertises what ``docs/protocols.md`` says, no less and no more."""

from homeserver.protocol import namespaces as ns
from homeserver.xmpp import protocols
from tests.e2e.conftest import MakeNode
from tests.kit.node import ParleyServer
from tests.kit.raw import RawClient


async def features(asker: RawClient, to: str) -> set[str]:
    """The features in the disco#info of an address."""
    asker.write(f"<iq type='get' id='d' to='{to}'><query xmlns='{ns.DISCO_INFO}'/></iq>")
    while (answer := await asker.next()).get("id") != "d":
        pass
    assert answer.get("type") == "result"
    return {found.get("var", "") for found in answer.iter(f"{{{ns.DISCO_INFO}}}feature")}


async def test_service_discovery_says_what_the_page_says(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"accounts": {"directory": "members"}})
    await node.start()
    told = protocols.advertised().values()
    domain, account = (set().union(*(pair[place] for pair in told)) for place in (0, 1))
    ann = RawClient(node.endpoint)
    try:
        await ann.login(node.accounts[0])
        assert await features(ann, node.domain) == domain
        assert await features(ann, node.accounts[0].jid) == account
    finally:
        ann.abort()


async def test_streams_offer_what_the_page_says(node: ParleyServer) -> None:
    offered = {support.offered for support in protocols.ELSEWHERE if support.offered}
    ann = RawClient(node.endpoint)
    try:
        await ann.open()
        seen = {part.tag for part in ann.features.iter()}
        await ann.authenticate(node.accounts[0])
        seen |= {part.tag for part in ann.features.iter()}
    finally:
        ann.abort()
    assert {name for name in offered if any(tag.startswith(f"{{{name}}}") for tag in seen)} == offered
