"""Refusals: one class per thing a service may refuse.

Each face has one table from these classes to its wire: stanza errors in ``homeserver/xmpp/errors.py``, HTTP statuses in
``client_api/http/errors.py``. A test walks all subclasses and demands both.
"""

from homeserver.protocol.xml import Element


class DomainError(Exception):
    """A rule said no. ``text`` is for the person asking and tells nothing they may not know.

    ``application`` is the element that a specification adds to its stanza error (RFC 6120 s8.3.4), such as
    ``<closed-node/>``; ``kind`` the error type where it prescribes another than the usual one.
    """

    def __init__(self, text: str = "", application: Element | None = None, kind: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.application = application


class BadRequest(DomainError):
    """The request cannot be understood."""


class NotAcceptable(DomainError):
    """Understood, but against a rule of this service (a password too short, a name not allowed)."""


class JidMalformed(DomainError):
    """An address in the request is not an address."""


class NotFound(DomainError):
    """No such item, or none that the asker may know of."""


class NotAuthorized(DomainError):
    """Who asks is not known, or the proof is wrong."""


class Forbidden(DomainError):
    """Who asks is known and may not."""


class NotAllowed(DomainError):
    """Nobody may do this here."""


class Conflict(DomainError):
    """It exists already, or was sent before with other content."""


class RateLimited(DomainError):
    """Too often. ``retry_after`` is in seconds."""

    def __init__(self, text: str = "", retry_after: float = 1.0, application: Element | None = None) -> None:
        super().__init__(text, application)
        self.retry_after = retry_after


class TooLarge(DomainError):
    """Larger than this server takes."""


class TooMany(DomainError):
    """The asker has as many as anybody may have."""


class ResourceConstraint(DomainError):
    """The server cannot store it now (disk full, queue full, quota); nothing was stored."""


class StorageFull(ResourceConstraint):
    """There is no room left to store anything; nothing was stored."""


class ServiceUnavailable(DomainError):
    """No such account or service, or it does not take this (RFC 6121 s8.5 demands one answer for both)."""


class UnexpectedRequest(DomainError):
    """Understood, but not now: what it builds on has not happened (XEP-0060 s6.2.3.2: not subscribed)."""


class Blocked(DomainError):
    """The asker itself blocks the addressee (XEP-0191 s3.2)."""


class RegistrationClosed(DomainError):
    """Accounts are not made this way here."""


class AccountDisabled(DomainError):
    """The account may not log in."""


class RemoteServerNotFound(DomainError):
    """The other domain could not be reached and nothing was sent to it."""


class RemoteServerTimeout(DomainError):
    """The other domain did not answer; what was sent may or may not have arrived."""


class FeatureNotImplemented(DomainError):
    """Asked for something this server does not offer."""
