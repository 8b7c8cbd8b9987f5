"""Stream features a server offers its clients, in the order of XEP-0170."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from homeserver.protocol import fast, upgrade
from homeserver.protocol import namespaces as ns
from homeserver.protocol.sasl import Offer
from homeserver.protocol.xml_input import XmlLimits


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What one listener offers.

    ``domains`` are the hosted domains, ``default_domain`` the one that answers where the client names none or another.
    ``starttls``: TLS can be begun on this connection. ``tls_required``: no login before TLS. ``cleartext_ok``: all
    mechanisms even without TLS (loopback, tests, a proxy that ends TLS). ``registration``: in-band registration is on
    offer. ``tokens``: clients may log in by token (XEP-0484). ``upgrades`` are the SCRAM hashes for which some accounts
    lack a verifier (XEP-0480). ``before_login`` and ``after_login`` are more features,
    written out. ``invitations``: registration takes tokens (XEP-0445 s3).
    """

    domains: frozenset[str]
    default_domain: str
    mechanisms: tuple[str, ...] = (
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
    )
    starttls: bool = True
    tls_required: bool = True
    cleartext_ok: bool = False
    sasl2: bool = True
    tokens: bool = True
    upgrades: tuple[str, ...] = ()
    registration: bool = False
    invitations: bool = False
    stream_management: bool = True
    client_state: bool = True
    downgrade_protection: bool = True
    before_login: str = ""
    after_login: str = ""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one client stream: XML before and after login, seconds to log in, failed logins, seconds to close.

    ``login_seconds`` counts from the connection to the bound resource. ``resource_bytes`` bounds a wished resource. A
    bound client that says nothing for ``idle_seconds`` is asked whether it is there; 0 asks nobody.
    """

    before_login: XmlLimits = field(default_factory=lambda: XmlLimits(max_bytes=10_000))
    after_login: XmlLimits = field(default_factory=XmlLimits)
    login_seconds: float = 60.0
    login_attempts: int = 5
    closing_seconds: float = 5.0
    resource_bytes: int = 1023
    idle_seconds: float = 0.0
    waiting_elements: int = 64


PRE_LOGIN_PAYLOADS: Final = frozenset((f"{{{ns.REGISTER}}}query", f"{{{ns.PRE_AUTHENTICATION}}}preauth"))
"""What an IQ may ask before login where registration is on offer (XEP-0077 s3.1, XEP-0445 s2)."""


def offered_mechanisms(options: StreamOptions, secure: bool, bindings: Iterable[str]) -> tuple[str, ...]:
    """The mechanisms for this connection as it is now; -PLUS only where there is a channel to bind."""
    if not secure and options.tls_required and not options.cleartext_ok:
        return ()
    bindable = secure and any(True for _ in bindings)
    plain_ok = secure or options.cleartext_ok
    return tuple(
        name
        for name in options.mechanisms
        if (bindable or not name.endswith("-PLUS")) and (plain_ok or name != "PLAIN")
    )


def before_login(options: StreamOptions, limits: StreamLimits, secure: bool, offer: Offer) -> str:
    """The features of a stream that nobody has logged in to."""
    mechanisms, bindings = offer.mechanisms, offer.bindings
    parts: list[str] = []
    if options.starttls and not secure:
        required = "<required/>" if options.tls_required and not options.cleartext_ok else ""
        parts.append(f"<starttls xmlns='{ns.TLS}'>{required}</starttls>")
    if mechanisms:
        if options.registration:
            parts.append(f"<register xmlns='{ns.REGISTER_FEATURE}'/>")
        if options.invitations:
            # COMPAT(Conversations, 2.19): looks for the name from before XEP-0445.
            parts.append(f"<register xmlns='{ns.INVITATION}'/><register xmlns='{ns.INVITATION_LEGACY}'/>")
        names = "".join(f"<mechanism>{name}</mechanism>" for name in mechanisms)
        types = "".join(f"<channel-binding type='{name}'/>" for name in bindings)
        if types and any(name.endswith("-PLUS") for name in mechanisms):
            parts.append(f"<sasl-channel-binding xmlns='{ns.SASL_CHANNEL_BINDING}'>{types}</sasl-channel-binding>")
        parts.append(f"<mechanisms xmlns='{ns.SASL}'>{names}</mechanisms>")
        if options.sasl2:
            inline = _inline(options) + (fast.feature(offer.tokens) if offer.tokens else "")
            parts.append(
                f"<authentication xmlns='{ns.SASL2}'>{names}<inline>{inline}</inline>"
                f"{upgrade.feature(options.upgrades)}</authentication>"
            )
    parts.append(_limits(limits.before_login, limits.login_seconds))
    parts.append(options.before_login)
    return "".join(parts)


def after_login(options: StreamOptions, limits: StreamLimits, is_bound: bool, is_managed: bool = False) -> str:
    """The features of a stream whose client is logged in, and with Bind 2 is bound already.

    With ``is_managed`` stream management is on already and not offered: clients enable what is offered, and enabling it
    twice ends the stream (XEP-0198 s3).
    """
    parts: list[str] = []
    if not is_bound:
        parts.append(f"<bind xmlns='{ns.BIND}'><required/></bind>")
        parts.append(f"<session xmlns='{ns.SESSION}'><optional/></session>")
    if options.stream_management and not is_managed:
        parts.append(f"<sm xmlns='{ns.STREAM_MANAGEMENT}'/>")
    if options.client_state:
        parts.append(f"<csi xmlns='{ns.CLIENT_STATE}'/>")
    parts.append(f"<ver xmlns='{ns.ROSTER_VERSIONING}'/><sub xmlns='{ns.PRE_APPROVAL}'/>")
    parts.append(_limits(limits.after_login, limits.idle_seconds))
    parts.append(options.after_login)
    return "".join(parts)


def _inline(options: StreamOptions) -> str:
    variables = [ns.CARBONS]
    if options.client_state:
        variables.append(ns.CLIENT_STATE)
    if options.stream_management:
        variables.append(ns.STREAM_MANAGEMENT)
    listed = "".join(f"<feature var='{name}'/>" for name in variables)
    bind = f"<bind xmlns='{ns.BIND2}'><inline>{listed}</inline></bind>"
    return bind + (f"<sm xmlns='{ns.STREAM_MANAGEMENT}'/>" if options.stream_management else "")


def _limits(limits: XmlLimits, idle: float) -> str:
    """XEP-0478 s3.1."""
    seconds = f"<idle-seconds>{int(idle)}</idle-seconds>" if idle >= 1 else ""
    return f"<limits xmlns='{ns.STREAM_LIMITS}'><max-bytes>{limits.max_bytes}</max-bytes>{seconds}</limits>"
