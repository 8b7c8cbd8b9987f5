"""Every refusal of the domain has a status, a name of its own and a title on HTTP."""

from client_api.http.errors import KINDS, problem_of, refusal
from homeserver.domain.errors import DomainError, NotFound, RateLimited


def _subclasses(kind: type[DomainError]) -> set[type[DomainError]]:
    found = set(kind.__subclasses__())
    return found.union(*(_subclasses(below) for below in found))


def test_every_refusal_is_in_the_table():
    assert _subclasses(DomainError) == set(KINDS)


def test_names_are_their_own_and_statuses_are_errors():
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    assert all(400 <= kind.status < 600 and kind.title for kind in KINDS.values())


def test_a_problem_says_type_status_and_detail():
    problem = problem_of(NotFound("no such thing"), "abc")
    assert (problem.type, problem.status, problem.detail, problem.request_id) == (
        "urn:parley:problem:not-found",
        404,
        "no such thing",
        "abc",
    )


def test_who_is_too_fast_is_told_when_to_come_back():
    assert refusal(RateLimited("slow down", 2.1), "abc").headers["Retry-After"] == "3"
