"""Every refusal has a stanza error (RFC 6120 s8.3.3)."""

from homeserver.domain.errors import DomainError
from homeserver.xmpp.errors import CONDITIONS, stanza_error


def refusals(kind: type[DomainError]) -> set[type[DomainError]]:
    found = set(kind.__subclasses__())
    return found.union(*(refusals(below) for below in found))


def test_every_refusal_can_be_said() -> None:
    assert refusals(DomainError) == set(CONDITIONS)


def test_the_text_goes_along() -> None:
    for kind in CONDITIONS:
        made = stanza_error(kind("why"))
        assert (made.condition, made.text) == (CONDITIONS[kind][0], "why")
