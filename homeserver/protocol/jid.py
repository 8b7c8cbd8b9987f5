"""Addresses: ``localpart@domainpart/resourcepart`` (RFC 7622).

`JID` is an immutable value. Text from outside enters through `JID.parse`, which prepares every part and raises
`InvalidJID`; what it returns compares and hashes by its prepared form, so two spellings of one address are equal.
Prepared addresses are cached, bounded, because a chat repeats a few of them for hours.
"""

import ipaddress
import re
from functools import lru_cache
from sys import intern
from typing import Final

import idna
from precis_i18n import get_profile

_PLAIN_LOCAL: Final = re.compile(r"[a-z0-9._+\-!#$%*=?^_{|}~]{1,1023}\Z")
_PLAIN_DOMAIN: Final = re.compile(
    r"(?=.{1,255}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z"
)
_PLAIN_RESOURCE: Final = re.compile(r"[\x21-\x7e]{1,1023}\Z")
_FORBIDDEN_IN_LOCAL: Final = frozenset("\"&'/:<>@ ")
_USERNAME = get_profile("UsernameCaseMapped")
_OPAQUE = get_profile("OpaqueString")
MAX_PART_BYTES: Final = 1023


class InvalidJID(ValueError):
    """The text is not an address (RFC 7622 s3); becomes ``jid-malformed`` on the wire."""


def prepare_local(text: str) -> str:
    """Return the prepared localpart (RFC 7622 s3.3: UsernameCaseMapped less nine characters).

    Raises `InvalidJID`.
    """
    if _PLAIN_LOCAL.match(text):
        return text
    try:
        prepared = _USERNAME.enforce(text)
    except (UnicodeError, ValueError) as error:
        raise InvalidJID(f"localpart not allowed: {error}") from error
    if _FORBIDDEN_IN_LOCAL.intersection(prepared):
        raise InvalidJID("localpart holds a forbidden character")
    return _bounded(prepared)


def prepare_domain(text: str) -> str:
    """Return the domainpart in lower case with A-labels turned into U-labels (RFC 7622 s3.2).

    Raises `InvalidJID`.
    """
    if _PLAIN_DOMAIN.match(text) and "xn--" not in text:
        return text
    text = text.removesuffix(".")
    if text.startswith("[") and text.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1]).compressed}]"
        except ValueError as error:
            raise InvalidJID("domainpart is no IPv6 address") from error
    lowered = text.lower()
    if _PLAIN_DOMAIN.match(lowered) and "xn--" not in lowered:
        return lowered
    try:
        decoded = idna.decode(lowered, uts46=True)
        idna.encode(decoded)  # refuses what no DNS name could be: labels too long, characters of no host name
        return _bounded(decoded)
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidJID(f"domainpart not allowed: {error}") from error


def prepare_resource(text: str) -> str:
    """Return the prepared resourcepart (RFC 7622 s3.4: OpaqueString). Raises `InvalidJID`."""
    if _PLAIN_RESOURCE.match(text):
        return text
    try:
        return _bounded(_OPAQUE.enforce(text))
    except (UnicodeError, ValueError) as error:
        raise InvalidJID(f"resourcepart not allowed: {error}") from error


def ascii_domain(domain: str) -> str:
    """Return the A-label form of a prepared domain, as DNS and TLS want it."""
    return domain if domain.isascii() else idna.encode(domain).decode("ascii")


def _bounded(part: str) -> str:
    if not 0 < len(part.encode()) <= MAX_PART_BYTES:
        raise InvalidJID("part is empty or longer than 1023 bytes")
    return part


class JID:
    """A prepared address.

    ``local`` and ``resource`` are empty strings where absent. ``bare`` is ``local@domain`` (or ``domain``) as text,
    ``str(jid)`` the full form. Build from trusted, already prepared parts with the constructor, from outside text
    with `JID.parse`.
    """

    __slots__ = ("_text", "bare", "domain", "local", "resource")

    def __init__(self, local: str, domain: str, resource: str = "") -> None:
        self.local = local
        self.domain = domain
        self.resource = resource
        self.bare = f"{local}@{domain}" if local else domain
        self._text = f"{self.bare}/{resource}" if resource else self.bare

    @staticmethod
    def parse(text: str) -> "JID":
        """Prepare ``text``. Raises `InvalidJID`."""
        return _parse(text) if len(text) <= 3071 else _too_long()

    @property
    def is_bare(self) -> bool:
        return not self.resource

    def to_bare(self) -> "JID":
        """The account or domain this address belongs to."""
        return JID(self.local, self.domain) if self.resource else self

    def with_resource(self, resource: str) -> "JID":
        """The same account with a prepared ``resource``."""
        return JID(self.local, self.domain, resource)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"JID({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JID) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def _too_long() -> JID:
    raise InvalidJID("address is longer than 3071 characters")


@lru_cache(maxsize=16384)
def _parse(text: str) -> JID:
    address, slash, resource = text.partition("/")
    local, at, domain = address.rpartition("@")
    if (slash and not resource) or (at and not local) or not domain:
        raise InvalidJID("a part of the address is empty")
    return JID(
        prepare_local(local) if local else "",
        intern(prepare_domain(domain)),  # rosters hold thousands of addresses of a few domains
        prepare_resource(resource) if resource else "",
    )
