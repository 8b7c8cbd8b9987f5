"""What a client asks for with ``<auth/>`` or ``<authenticate/>``, read before anything is judged (RFC 6120 s6.4.2,
XEP-0388 s2.3)."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from homeserver.protocol import fast, upgrade
from homeserver.protocol import namespaces as ns
from homeserver.protocol.binding import Inline, inline_requests
from homeserver.protocol.features import StreamOptions
from homeserver.protocol.sasl import Offer, SaslFault
from homeserver.protocol.stream_events import TokenUse, UserAgent
from homeserver.protocol.xml import Element, child, text_of

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """One attempt. ``initial`` is the mechanism's first message or None; the rest is what SASL2 adds."""

    mechanism: str = ""
    initial: bytes | None = field(default=None, repr=False)
    inline: Inline = field(default_factory=Inline)
    user_agent: UserAgent | None = None
    use: TokenUse | None = None
    wanted_token: str = ""
    wanted_upgrades: tuple[str, ...] = ()

    @property
    def client(self) -> str:
        """The id of the user agent; empty where there is none."""
        return (self.user_agent.id or "") if self.user_agent is not None else ""


def login_request(element: Element, is_sasl2: bool, offer: Offer, options: StreamOptions) -> LoginRequest:
    """Read it. Raises `SaslFault`."""
    mechanism = element.get("mechanism", "")
    if not offer.mechanisms:
        raise SaslFault("encryption-required")
    if not is_sasl2:
        if mechanism in offer.tokens:
            raise SaslFault("invalid-mechanism")
        text = (element.text or "").strip()
        return LoginRequest(mechanism, decoded(text) if text else None)
    if not options.sasl2:
        raise SaslFault("invalid-mechanism")
    initial = text_of(element, ns.SASL2, "initial-response")
    agent = _user_agent(element)
    has_id = agent is not None and agent.id is not None
    is_token = mechanism in offer.tokens
    use = fast.token_use(element) if is_token else None
    if is_token and (use is None or not has_id):
        raise SaslFault("malformed-request", "a token needs <fast/> and the id of the user agent")
    return LoginRequest(
        mechanism,
        None if initial is None else decoded(initial.strip()),
        inline_requests(element),
        agent,
        use,
        fast.wanted_token(element, offer.tokens) if has_id else "",
        # A token proves a device, not the password: it must not be turned into another password.
        () if is_token else upgrade.wanted_upgrades(element, options.upgrades),
    )


def decoded(text: str) -> bytes:
    """What is sent in base64, ``=`` for nothing (RFC 6120 s6.4.2). Raises `SaslFault`."""
    if text == "=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SaslFault("incorrect-encoding") from error


def _user_agent(request: Element) -> UserAgent | None:
    """What the client says of itself; an id that is no UUID is left out (XEP-0388 s2.3)."""
    found = child(request, ns.SASL2, "user-agent")
    if found is None:
        return None
    identifier = found.get("id", "")
    return UserAgent(
        identifier.lower() if _UUID.match(identifier) else None,
        (text_of(found, ns.SASL2, "software") or "")[:200],
        (text_of(found, ns.SASL2, "device") or "")[:200],
    )
