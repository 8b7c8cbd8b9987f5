"""Which localparts a new account may have, and which names below a domain are taken by services.

Other servers still prepare addresses with Nodeprep (RFC 6122), this one with PRECIS (RFC 7622). A name on which the two
disagree is reachable from one half of the network only, so new accounts get names that both leave as they are.
"""

import stringprep
import unicodedata
from typing import TYPE_CHECKING, Final

from homeserver.domain.errors import NotAcceptable
from homeserver.protocol.jid import JID, InvalidJID

if TYPE_CHECKING:
    from config.settings import Settings

MAX_LOCAL: Final = 256
"""Longest localpart of a new account in bytes; an address must fit into many forms, logs and keys."""

_PROHIBITED: Final = (
    stringprep.in_table_c11_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def new_address(username: str, domain: str) -> JID:
    """The bare address of a new account. Raises `NotAcceptable`, with the reason for the person choosing."""
    try:
        jid = JID.parse(f"{username}@{domain}")
    except InvalidJID as error:
        raise NotAcceptable("this name cannot be part of an address") from error
    if not jid.local or "@" in username or "/" in username or jid.resource:
        raise NotAcceptable("this name cannot be part of an address")
    if len(jid.local.encode()) > MAX_LOCAL:
        raise NotAcceptable(f"the name is longer than {MAX_LOCAL} bytes")
    if nodeprep(jid.local) != jid.local:
        raise NotAcceptable("this name would be written in another way by other servers")
    return jid


def nodeprep(text: str) -> str | None:
    """The localpart as Nodeprep makes it (RFC 6122 appendix A, RFC 3454), or None where it refuses."""
    if text.isascii():
        return text.lower()
    mapped = "".join(stringprep.map_table_b2(mark) for mark in text if not stringprep.in_table_b1(mark))
    mapped = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(stringprep.in_table_a1(mark) or any(table(mark) for table in _PROHIBITED) for mark in mapped):
        return None
    if any(map(stringprep.in_table_d1, mapped)):
        mixed = any(map(stringprep.in_table_d2, mapped))
        if mixed or not (stringprep.in_table_d1(mapped[0]) and stringprep.in_table_d1(mapped[-1])):
            return None
    return mapped


def service_labels(settings: "Settings") -> tuple[str, ...]:
    """The names under each domain at which there are services."""
    return settings.groups.subdomain, settings.upload.subdomain, settings.pubsub.subdomain


def services_below(settings: "Settings", domain: str) -> tuple[str, ...]:
    """The names below a domain for which it speaks towards other servers: its services and its components."""
    own = [component.domain for component in settings.component if domain_above(component.domain, settings) == domain]
    return (*(f"{label}.{domain}" for label in service_labels(settings)), *own)


def domain_above(name: str, settings: "Settings") -> str | None:
    """The nearest served domain that a name is below."""
    above = [domain for domain in settings.domains if name.endswith(f".{domain}")]
    return max(above, key=len, default=None)
