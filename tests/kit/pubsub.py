"""Publish-subscribe requests as clients write them, and what they are answered with."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from tests.kit.fakes import FakeSession
from tests.kit.world import World

P = "{http://jabber.org/protocol/pubsub}"
O = "{http://jabber.org/protocol/pubsub#owner}"  # noqa: E741 - as short as its sibling
X = "{jabber:x:data}"
SERVICE = "pubsub.a.example"


def form(kind: str, fields: Mapping[str, object]) -> str:
    """A submitted form; names without ``pubsub#``. A tuple is several values."""
    made = f"<field var='FORM_TYPE' type='hidden'><value>{ns.PUBSUB}#{kind}</value></field>"
    for name, value in fields.items():
        values = value if isinstance(value, tuple) else (value,)
        texts = "".join(f"<value>{one}</value>" for one in values)
        made += f"<field var='pubsub#{name}'>{texts}</field>"
    return f"<x xmlns='jabber:x:data' type='submit'>{made}</x>"


def publish(node: str, item: str | None = "1", payload: str = "<v xmlns='urn:test'/>", **options: object) -> str:
    """The content of ``<pubsub/>`` that publishes; ``options`` are publish-options."""
    id_ = f" id='{item}'" if item is not None else ""
    asked = f"<publish node='{node}'><item{id_}>{payload}</item></publish>"
    if options:
        asked += f"<publish-options>{form('publish-options', options)}</publish-options>"
    return asked


def create(node: str, **config: object) -> str:
    """The content of ``<pubsub/>`` that makes a node."""
    configure = f"<configure>{form('node_config', config)}</configure>" if config else ""
    return f"<create node='{node}'/>{configure}"


def configure(node: str, **config: object) -> str:
    """The content of the owner's ``<pubsub/>`` that changes a configuration."""
    return f"<configure node='{node}'>{form('node_config', config)}</configure>"


def request(kind: str, content: str, to: str = "", owner: bool = False) -> str:
    """A whole IQ."""
    target = f" to='{to}'" if to else ""
    namespace = ns.PUBSUB_OWNER if owner else ns.PUBSUB
    return f"<iq type='{kind}' id='p'{target}><pubsub xmlns='{namespace}'>{content}</pubsub></iq>"


async def ask(server: World, who: FakeSession, kind: str, content: str, to: str = "", owner: bool = False) -> Element:
    """A local client asks."""
    return await server.iq(who, request(kind, content, to, owner))


async def done(server: World, who: FakeSession, content: str, to: str = "", owner: bool = False) -> Element:
    """A local client changes something, and it works."""
    answer = await ask(server, who, "set", content, to, owner)
    assert said(answer) == "result", said(answer)
    return answer


async def from_afar(server: World, sender: str, kind: str, content: str, to: str, owner: bool = False) -> Element:
    """Someone of another server asks."""
    server.outbox.passing.clear()
    await server.remote(sender, request(kind, content, to, owner))
    [answer] = [found for _, found in server.outbox.passing if found.tag.endswith("}iq")]
    return answer


def said(answer: Element) -> str:
    """ "result", or the condition of an error, its type, and its application condition: "conflict/cancel node-full"."""
    if answer.get("type") == "result":
        return "result"
    error = answer.find(f"{{{ns.CLIENT}}}error")
    assert error is not None
    condition = next(one for one in error if one.tag.startswith(f"{{{ns.STANZA_ERRORS}}}"))
    found = f"{condition.tag.rpartition('}')[2]}/{error.get('type')}"
    for one in error:
        if one.tag.startswith(f"{{{ns.PUBSUB_ERRORS}}}"):
            found += f" {one.tag.rpartition('}')[2]}"
            found += f"={one.get('feature')}" if one.get("feature") else ""
    return found


def ids(answer: Element) -> list[str | None]:
    """The ids of the items in an answer."""
    return [item.get("id") for item in answer.iter(f"{P}item")]


def fields(answer: Element) -> dict[str, list[str | None]]:
    """The values of a form in an answer, by names without ``pubsub#``."""
    return {
        (field.get("var") or "").removeprefix("pubsub#"): [value.text for value in field.findall(f"{X}value")]
        for field in answer.iter(f"{X}field")
    }
