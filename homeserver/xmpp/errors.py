"""The one table from refusals to stanza errors (RFC 6120 s8.3.3)."""

from typing import Final

from homeserver.domain import errors as domain
from homeserver.protocol.stanza import ErrorType, StanzaError

CONDITIONS: Final[dict[type[domain.DomainError], tuple[str, ErrorType | None]]] = {
    domain.BadRequest: ("bad-request", None),
    domain.NotAcceptable: ("not-acceptable", None),
    domain.JidMalformed: ("jid-malformed", None),
    domain.NotFound: ("item-not-found", None),
    domain.NotAuthorized: ("not-authorized", None),
    domain.Forbidden: ("forbidden", None),
    domain.NotAllowed: ("not-allowed", None),
    domain.Conflict: ("conflict", None),
    domain.RateLimited: ("resource-constraint", ErrorType.WAIT),
    domain.TooLarge: ("policy-violation", None),
    domain.TooMany: ("policy-violation", ErrorType.WAIT),
    domain.ResourceConstraint: ("resource-constraint", None),
    domain.StorageFull: ("resource-constraint", None),
    domain.ServiceUnavailable: ("service-unavailable", None),
    domain.UnexpectedRequest: ("unexpected-request", ErrorType.CANCEL),
    domain.Blocked: ("not-acceptable", ErrorType.CANCEL),
    domain.RegistrationClosed: ("not-allowed", None),
    domain.AccountDisabled: ("not-authorized", None),
    domain.RemoteServerNotFound: ("remote-server-not-found", None),
    domain.RemoteServerTimeout: ("remote-server-timeout", None),
    domain.FeatureNotImplemented: ("feature-not-implemented", None),
}


def stanza_error(refusal: domain.DomainError) -> StanzaError:
    """How a refusal is said in XMPP."""
    condition, kind = CONDITIONS[type(refusal)]
    if refusal.kind is not None:
        kind = ErrorType(refusal.kind)
    return StanzaError(condition, kind, refusal.text, refusal.application)
