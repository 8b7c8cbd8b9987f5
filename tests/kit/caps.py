"""Clients that say what they want to be notified of (XEP-0115)."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import Advertised, verification_string
from tests.kit.fakes import FakeSession, wire
from tests.kit.world import World

NODE = "https://client.example"


def info(nodes: Iterable[str], name: str = "Test") -> str:
    """The disco#info of a client that is interested in ``nodes``, without ``node``."""
    said = "".join(f"<feature var='{node}+notify'/>" for node in nodes)
    return f"<query xmlns='{ns.DISCO_INFO}'><identity category='client' type='pc' name='{name}'/>{said}</query>"


def ver(nodes: Iterable[str], name: str = "Test") -> str:
    """The hash of that answer."""
    return verification_string(wire(info(nodes, name).encode()))


def presence(nodes: Iterable[str], name: str = "Test", *, to: str = "", algorithm: str = "sha-1") -> str:
    """An available presence that advertises it."""
    address = f" to='{to}'" if to else ""
    said = f"<c xmlns='{ns.CAPS}' hash='{algorithm}' node='{NODE}' ver='{ver(nodes, name)}'/>"
    return f"<presence{address}>{said}</presence>"


def is_known(server: World, nodes: Iterable[str]) -> bool:
    """Whether nobody needs to be asked about that hash any more."""
    return server.caps.known(Advertised("sha-1", NODE, ver(nodes))) is not None


def questions(stanzas: Iterable[Element]) -> list[Element]:
    """The disco#info requests among stanzas."""
    return [found for found in stanzas if found.find(f"{{{ns.DISCO_INFO}}}query") is not None]


def events(stanzas: Iterable[Element]) -> list[Element]:
    """The notifications among stanzas."""
    return [found for found in stanzas if found.find(f"{{{ns.PUBSUB_EVENT}}}event") is not None]


async def asked(session: FakeSession, count: int = 1) -> list[Element]:
    """The questions that a session is asked, as soon as there are that many; all else it was sent is forgotten."""
    await until(lambda: len(questions(map(wire, session.sent))) >= count)
    return questions(session.take())


async def reply(server: World, session: FakeSession, question: Element, nodes: Iterable[str]) -> None:
    """Answer one."""
    text = f"<iq type='result' id='{question.get('id')}' to='{question.get('from')}'>{info(nodes)}</iq>"
    await server.send(session, text)


async def answer(server: World, session: FakeSession, nodes: Collection[str]) -> None:
    """Wait for the question a session is asked, and answer it."""
    for question in await asked(session):
        await reply(server, session, question, nodes)


async def until(condition: Callable[[], object]) -> None:
    """Let the server work until something is so; TimeoutError after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
