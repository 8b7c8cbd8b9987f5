"""Rosters as stanzas."""

from xml.etree.ElementTree import tostring

import pytest

from homeserver.domain.rosters import Contact
from homeserver.domain.subscriptions import State
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import IQ, Stanza, result
from homeserver.protocol.xml import Element, parse_own, parse_stanza, serialise
from homeserver.services import roster_stanzas

OWNER = JID("alice", "a.example", "phone")
STRANGE = 'Bob & <"O\'Brien">\t\r\n]]>'


def contacts() -> list[Contact]:
    plain = [Contact(JID(state.name.lower(), "b.example"), state=state, listed=True) for state in State]
    named = Contact(JID("bob", "b.example"), STRANGE, (STRANGE, "B"), State.TO, True, True)
    return [*plain, named, Contact(JID("", "gateway.example"), state=State.BOTH, listed=True)]


@pytest.mark.parametrize("found", [[], contacts()], ids=["empty", "all kinds"])
def test_a_listing_reads_as_the_query_of_its_items(found: list[Contact]) -> None:
    request = Element(IQ, {"type": "get", "id": "r"})
    answer = Stanza(result(Stanza(request, OWNER, None), roster_stanzas.listing(7, found)), OWNER.to_bare(), OWNER)
    query = parse_stanza(answer.encode())[0]
    assert query.get("ver") == "7"
    expected = parse_own(serialise(roster_stanzas.query(7, found), default="").encode())
    assert tostring(query) == tostring(expected)
    assert len(query.findall(f"{{{ns.ROSTER}}}item")) == len(found)
