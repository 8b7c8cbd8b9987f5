"""Questions of the server itself: who may answer."""

import asyncio
from typing import Any

import pytest

from homeserver.domain.errors import RemoteServerTimeout
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import IQ, Stanza
from homeserver.protocol.xml import Element
from homeserver.services.enquiries import Enquiries

ASKER = JID.parse("a.example")
ASKED = JID.parse("bob@a.example/phone")


class Sent:
    """Keeps what would leave."""

    def __init__(self) -> None:
        self.stanzas: list[Stanza] = []

    def route(self, stanza: Stanza) -> None:
        self.stanzas.append(stanza)


def answer(id_: str | None, sender: JID, to: JID | None, kind: str = "result") -> Stanza:
    made = Element(IQ, {"type": kind, "id": id_ or ""})
    made.append(Element("{urn:x}found"))
    return Stanza(made, sender, to)


async def asked(sent: Any) -> tuple[Enquiries, "asyncio.Task[Element | None]", str]:
    enquiries = Enquiries(sent)
    task = asyncio.ensure_future(enquiries.ask(ASKER, ASKED, Element("{urn:x}q"), timeout=5))
    await asyncio.sleep(0)
    return enquiries, task, sent.stanzas[-1].id


async def test_the_answer_of_who_was_asked_is_taken() -> None:
    enquiries, task, id_ = await asked(Sent())
    assert enquiries.answered(answer(id_, ASKED, ASKER))
    found = await task
    assert found is not None
    assert found.tag == "{urn:x}found"
    assert not enquiries.answered(answer(id_, ASKED, ASKER))


@pytest.mark.parametrize(
    ("sender", "to"),
    [("eve@a.example/x", "a.example"), ("bob@a.example", "a.example"), ("bob@a.example/phone", "b.example")],
)
async def test_an_answer_of_somebody_else_is_ignored(sender: str, to: str) -> None:
    enquiries, task, id_ = await asked(Sent())
    assert not enquiries.answered(answer(id_, JID.parse(sender), JID.parse(to)))
    assert enquiries.answered(answer(id_, ASKED, ASKER))
    await task


async def test_an_error_and_silence_are_no_answer() -> None:
    enquiries, task, id_ = await asked(Sent())
    enquiries.answered(answer(id_, ASKED, ASKER, "error"))
    with pytest.raises(RemoteServerTimeout):
        await task
    silence: Any = Sent()
    silent = Enquiries(silence)
    with pytest.raises(RemoteServerTimeout):
        await silent.ask(ASKER, ASKED, Element("{urn:x}q"), timeout=0.01)
