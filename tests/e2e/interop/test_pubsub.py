"""slixmpp publishes and reads: personal eventing, the service of a domain, and both across two domains."""

from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from slixmpp import JID
from slixmpp.exceptions import IqError

from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

NODE = "urn:xmpp:omemo:2:devices"
WITH_PUBSUB = (*PLUGINS, "xep_0060", "xep_0163")


def device(node: ParleyServer, name: str, resource: str = "") -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint_for("starttls"), account, resource, plugins=WITH_PUBSUB)


def payload(text: str) -> Element:
    return fromstring(f"<devices xmlns='urn:xmpp:omemo:2'><device id='{text}'/></devices>")


def options(slix: Slix, **wanted: str) -> Any:
    """publish-options as a form."""
    form = slix.plugin(4).make_form(ftype="submit")
    form.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
    for name, value in wanted.items():
        form.add_field(var=f"pubsub#{name}", value=value)
    return form


async def publish(slix: Slix, item: str, to: str | None = None, node: str = NODE, **wanted: str) -> None:
    form = options(slix, **wanted) if wanted else None
    target = JID(to) if to else None
    await slix.plugin(60).publish(target, node, id=item, payload=payload(item), options=form, timeout=10)


async def items(slix: Slix, to: str, node: str = NODE, **wanted: Any) -> list[str]:
    answer = await slix.plugin(60).get_items(JID(to), node, timeout=10, **wanted)
    return [item["id"] for item in answer["pubsub"]["items"]]


async def test_the_second_device_finds_and_keeps_the_configuration(one: ParleyServer, two: ParleyServer) -> None:
    """Create by publish-options, conflict where they differ, and the same again from another device."""
    async with device(one, "ann", "a") as first, device(one, "ann", "b") as second:
        info = await first.plugin(30).get_info(JID("ann@one.example"), timeout=10)
        assert ("pubsub", "pep", None, None) in info["disco_info"]["identities"]
        await publish(first, "current", access_model="open", max_items="max", send_last_published_item="never")
        await publish(second, "other", access_model="open", max_items="max")
        with pytest.raises(IqError) as refused:
            await publish(second, "third", access_model="whitelist")
        assert refused.value.condition == "conflict"
        assert await items(second, "ann@one.example") == ["other", "current"]
        assert await items(first, "ann@one.example", max_items=1) == ["other"]
        form = (await second.plugin(60).get_node_config(JID("ann@one.example"), NODE, timeout=10))["pubsub_owner"]
        assert form["configure"]["form"].get_values()["pubsub#max_items"] == "max"


async def test_another_domain_reads_by_access_model(one: ParleyServer, two: ParleyServer) -> None:
    """S-70 over a pair of servers: open to everybody, presence to contacts only, whitelist to nobody."""
    async with device(one, "bob") as bob, device(two, "bob") as far:
        for model in ("open", "presence", "whitelist"):
            await publish(bob, "x", node=f"urn:test:{model}", access_model=model)
        assert await items(far, "bob@one.example", "urn:test:open") == ["x"]
        for model, condition in (
            ("presence", "not-authorized"),
            ("whitelist", "not-allowed"),
            ("no", "item-not-found"),
        ):
            with pytest.raises(IqError) as refused:
                await items(far, "bob@one.example", f"urn:test:{model}")
            assert refused.value.condition == condition
        far.xmpp.send_presence_subscription(JID("bob@one.example"), ptype="subscribe")
        await bob.until(lambda: any(seen["type"] == "subscribe" for seen in bob.presences))
        bob.xmpp.send_presence(pto=JID("bob@two.example"), ptype="subscribed")
        await far.until(lambda: any(seen["type"] == "subscribed" for seen in far.presences))
        assert await items(far, "bob@one.example", "urn:test:presence") == ["x"]


async def test_the_service_of_a_domain(one: ParleyServer, two: ParleyServer) -> None:
    """Create, publish, subscribe from another domain, retract, delete."""
    service = "pubsub.one.example"
    async with device(one, "cat") as cat, device(two, "cat") as far:
        listed = await cat.plugin(30).get_items(JID("one.example"), timeout=10)
        assert service in {str(item[0]) for item in listed["disco_items"]["items"]}
        pubsub, target = cat.plugin(60), JID(service)
        await pubsub.create_node(target, "news", timeout=10)
        await publish(cat, "1", service, "news")
        await publish(cat, "2", service, "news")
        assert await items(far, service, "news") == ["2", "1"]
        answer = await far.plugin(60).subscribe(target, "news", timeout=10)
        assert answer["pubsub"]["subscription"]["subscription"] == "subscribed"
        with pytest.raises(IqError) as refused:
            await publish(far, "3", service, "news")
        assert refused.value.condition == "forbidden"
        await pubsub.retract(target, "news", "2", timeout=10)
        assert await items(far, service, "news") == ["1"]
        await pubsub.delete_node(target, "news", timeout=10)
        with pytest.raises(IqError) as refused:
            await items(far, service, "news")
        assert refused.value.condition == "item-not-found"
