"""Tokens in place of passwords, as they stand in the stream (XEP-0484)."""

from dataclasses import dataclass, field
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.sasl import TOKEN_MECHANISMS, SaslFault
from homeserver.protocol.stream import attribute
from homeserver.protocol.stream_events import TokenUse
from homeserver.protocol.xml import Element, child

MAX_COUNT: Final = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token for the client; ``expiry`` is its end as XEP-0082 writes it."""

    token: str = field(repr=False)
    expiry: str


def offered_tokens(bindings: frozenset[str]) -> tuple[str, ...]:
    """The mechanisms for a channel that has these bindings; one without binding is always there (XEP-0484 s3.1)."""
    return tuple(name for name, binding in TOKEN_MECHANISMS.items() if not binding or binding in bindings)


def feature(mechanisms: tuple[str, ...]) -> str:
    """What stands among the inline features. There is no ``tls-0rtt``: early data is not accepted."""
    names = "".join(f"<mechanism>{name}</mechanism>" for name in mechanisms)
    return f"<fast xmlns='{ns.FAST}'>{names}</fast>"


def token_use(request: Element) -> TokenUse | None:
    """``<fast/>`` of ``<authenticate/>``, None without one. Raises `SaslFault` for a count that is no number (s3.4)."""
    found = child(request, ns.FAST, "fast")
    if found is None:
        return None
    text = found.get("count")
    count: int | None = None
    if text is not None:
        if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > MAX_COUNT:
            raise SaslFault("malformed-request", "count is no number")
        count = int(text)
    return TokenUse(count, found.get("invalidate") in ("true", "1"))


def wanted_token(request: Element, offered: tuple[str, ...]) -> str:
    """The mechanism for which the client asks for a token (s3.2), "" where it asks for none that is on offer."""
    found = child(request, ns.FAST, "request-token")
    mechanism = found.get("mechanism", "") if found is not None else ""
    return mechanism if mechanism in offered else ""


def token_element(issued: IssuedToken | None) -> str:
    """What goes into ``<success/>`` (s3.3)."""
    if issued is None:
        return ""
    return f"<token xmlns='{ns.FAST}'{attribute('expiry', issued.expiry)}{attribute('token', issued.token)}/>"
