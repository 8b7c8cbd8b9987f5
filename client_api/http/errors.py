"""Refusals on HTTP: one table from error class to status and problem type (RFC 9457)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from homeserver.domain import errors
from homeserver.protocol import namespaces as ns

PROBLEM_JSON: Final = "application/problem+json"


class Problem(msgspec.Struct, omit_defaults=True):
    """Why a request was refused. ``type`` is stable and for programs, ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """Status, name in the problem type, and title of one class of refusals."""

    status: int
    name: str
    title: str


KINDS: Final[dict[type[errors.DomainError], Kind]] = {
    errors.BadRequest: Kind(400, "bad-request", "The request cannot be understood"),
    errors.NotAcceptable: Kind(422, "not-acceptable", "This is against a rule of the server"),
    errors.JidMalformed: Kind(400, "jid-malformed", "This is not an address"),
    errors.NotFound: Kind(404, "not-found", "There is no such thing, or not for you"),
    errors.NotAuthorized: Kind(401, "not-authorized", "Log in first"),
    errors.Forbidden: Kind(403, "forbidden", "You may not do this"),
    errors.NotAllowed: Kind(403, "not-allowed", "Nobody may do this here"),
    errors.Conflict: Kind(409, "conflict", "It is there already, with other content"),
    errors.RateLimited: Kind(429, "rate-limited", "Too many requests"),
    errors.TooLarge: Kind(413, "too-large", "Larger than this server takes"),
    errors.TooMany: Kind(429, "too-many", "You have as many as anybody may have"),
    errors.ResourceConstraint: Kind(503, "resource-constraint", "The server cannot do this now"),
    errors.StorageFull: Kind(507, "storage-full", "The server has no room left"),
    errors.ServiceUnavailable: Kind(404, "recipient-unavailable", "There is no such recipient, or it takes nothing"),
    errors.UnexpectedRequest: Kind(409, "unexpected-request", "What this builds on has not happened"),
    errors.Blocked: Kind(403, "blocked", "You block this address"),
    errors.RegistrationClosed: Kind(403, "registration-closed", "Accounts are not made this way here"),
    errors.AccountDisabled: Kind(403, "account-disabled", "The account may not log in"),
    errors.RemoteServerNotFound: Kind(404, "remote-server-not-found", "The other server cannot be reached"),
    errors.RemoteServerTimeout: Kind(503, "remote-server-timeout", "The other server does not answer"),
    errors.FeatureNotImplemented: Kind(422, "feature-not-implemented", "This server does not offer this"),
}
"""Every refusal a service may raise; a test walks the subclasses."""

HTTP_KINDS: Final = {
    400: Kind(400, "bad-request", "The request cannot be understood"),
    404: Kind(404, "not-found", "There is no such path"),
    405: Kind(405, "method-not-allowed", "The path does not take this method"),
    408: Kind(408, "request-timeout", "The request took too long to arrive"),
    411: Kind(411, "length-required", "The request must say how long its body is"),
    413: Kind(413, "too-large", "Larger than this server takes"),
    415: Kind(415, "unsupported-media-type", "The body is not of a type that is taken here"),
    417: Kind(417, "expectation-failed", "The Expect header asks for something not offered"),
    421: Kind(421, "misdirected-request", "This host is not served here"),
    426: Kind(426, "upgrade-required", "This path speaks WebSocket only"),
}
"""Refusals of HTTP itself."""


def problem_of(error: errors.DomainError, request_id: str = "") -> Problem:
    """The problem a refusal becomes."""
    kind = KINDS[type(error)]
    return Problem(ns.PARLEY_PROBLEM + kind.name, kind.title, kind.status, error.text, request_id)


def refusal(error: errors.DomainError, request_id: str) -> web.Response:
    """The answer a refusal becomes."""
    response = render(problem_of(error, request_id))
    if isinstance(error, errors.RateLimited):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, errors.NotAuthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def http_refusal(status: int, request_id: str, detail: str = "") -> web.Response:
    """The answer to what HTTP itself refuses."""
    kind = HTTP_KINDS.get(status, Kind(status, "refused", "The request was refused"))
    return render(Problem(ns.PARLEY_PROBLEM + kind.name, kind.title, status, detail, request_id))


def internal(request_id: str) -> web.Response:
    """The answer when the server failed; says nothing but the id under which the log has it."""
    return render(
        Problem(ns.PARLEY_PROBLEM + "internal", "The server failed; the log has the request id", 500, "", request_id)
    )


def render(problem: Problem) -> web.Response:
    """A problem as a response."""
    return web.Response(status=problem.status, body=msgspec.json.encode(problem), content_type=PROBLEM_JSON)
