"""How an XMPP feature declares itself.

A feature is one class in one file. ``@feature`` states which specification it implements and what it adds to service
discovery; ``@on_iq`` and ``@on_presence`` mark its handlers; annotated fields name the services it needs, and
``homeserver.wiring`` provides them by type. Disco answers, ``docs/protocols.md`` and the checks are read from these
declarations, so a feature that is not built is not advertised.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from homeserver.domain.accounts import Account
from homeserver.domain.sessions import Session
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import Element

DECLARATION: Final = "__feature__"
IQ_HANDLERS: Final = "__on_iq__"
PRESENCE_TYPES: Final = "__on_presence__"
MESSAGE_PARTS: Final = "__on_message_part__"


class Addressee(Enum):
    """Whom a stanza is for, as the router resolved it once."""

    OWN_ACCOUNT = "own account"
    ACCOUNT = "another account here"
    DOMAIN = "a domain served here"
    SESSION = "a session here"
    UPLOAD = "the upload service of a domain"
    PUBSUB = "the publish-subscribe service of a domain"


SERVICES: Final = (Addressee.DOMAIN, Addressee.UPLOAD, Addressee.PUBSUB)
"""Those that are no account's."""
EVERYONE: Final = (Addressee.OWN_ACCOUNT, Addressee.ACCOUNT, Addressee.DOMAIN)


@dataclass(frozen=True, slots=True)
class IqRequest:
    """An IQ of type get or set that this server answers (RFC 6120 s8.2.3).

    ``session`` is None and ``respond`` unusable where the asker is remote. ``account`` is the addressed account: the
    asker's own for OWN_ACCOUNT, None for DOMAIN and the services. ``respond`` writes a ready-made stanza to the asker before the reply.
    """

    stanza: Stanza
    payload: Element
    sender: JID
    session: Session | None
    account: Account | None
    addressee: Addressee
    respond: Callable[[bytes], None] | None = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a feature says of itself.

    ``xep`` is the number of the specification, or None where ``rfc`` names one. ``disco`` are features of the domain,
    ``account_disco`` features of every account's bare JID.
    """

    name: str
    xep: int | None
    rfc: str | None
    version: str
    status: str
    disco: tuple[str, ...]
    account_disco: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IqKey:
    """What selects an IQ handler."""

    type: str
    tag: str
    addressee: Addressee


Handler = TypeVar("Handler", bound=Callable[..., Any])
Feature = TypeVar("Feature")


def feature(
    *,
    xep: int | None = None,
    rfc: str | None = None,
    version: str = "",
    status: str = "complete",
    disco: tuple[str, ...] = (),
    account_disco: tuple[str, ...] = (),
) -> Callable[[type[Feature]], type[Feature]]:
    """Declare a class as a feature; its annotated fields become constructor arguments, in order."""

    def declare(cls: type[Feature]) -> type[Feature]:
        made = dataclass(eq=False)(cls)
        setattr(made, DECLARATION, Declaration(cls.__name__, xep, rfc, version, status, disco, account_disco))
        return made

    return declare


def on_iq(
    kind: str, namespace: str, name: str, to: Addressee | Iterable[Addressee] = Addressee.OWN_ACCOUNT
) -> Callable[[Handler], Handler]:
    """Mark a coroutine method as the handler of one IQ. It returns the result's payload or None, or raises DomainError."""

    def mark(handler: Handler) -> Handler:
        addressees = (to,) if isinstance(to, Addressee) else tuple(to)
        keys = [IqKey(kind, f"{{{namespace}}}{name}", addressee) for addressee in addressees]
        setattr(handler, IQ_HANDLERS, (*getattr(handler, IQ_HANDLERS, ()), *keys))
        return handler

    return mark


def on_presence(*types: str, outbound: bool) -> Callable[[Handler], Handler]:
    """Mark a method as the handler of presence types ("" is available).

    ``outbound``: sent by a local session, called with ``(session, stanza)``; otherwise for a local account, called
    with ``(account, stanza)``. It may return an awaitable, which holds up what the same client sends behind it.
    """

    def mark(handler: Handler) -> Handler:
        keys = tuple((kind, outbound) for kind in types)
        setattr(handler, PRESENCE_TYPES, (*getattr(handler, PRESENCE_TYPES, ()), *keys))
        return handler

    return mark


def on_message_part(namespace: str, name: str) -> Callable[[Handler], Handler]:
    """Mark a coroutine method that is given this child of a local client's message, with ``(session, to, part)``; ``to`` is
    the address as the client wrote it.

    The child is taken out; the message goes on when the method has returned. Raising `DomainError` does not stop it.
    """

    def mark(handler: Handler) -> Handler:
        setattr(handler, MESSAGE_PARTS, (*getattr(handler, MESSAGE_PARTS, ()), f"{{{namespace}}}{name}"))
        return handler

    return mark


PresenceHandler = Callable[[Any, Stanza], Awaitable[None] | None]
IqHandler = Callable[[IqRequest], Awaitable[Element | None]]
PartHandler = Callable[[Session, str, Element], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Handlers:
    """All handlers of the features that were built."""

    iq: dict[IqKey, IqHandler]
    presence: dict[tuple[str, bool], PresenceHandler]
    declarations: tuple[Declaration, ...]
    parts: dict[str, PartHandler] = field(default_factory=dict)


def collect(features: Iterable[object]) -> Handlers:
    """Read the declarations of built features. Raises ValueError where two claim one stanza."""
    iq: dict[IqKey, IqHandler] = {}
    presence: dict[tuple[str, bool], PresenceHandler] = {}
    declarations: list[Declaration] = []
    parts: dict[str, PartHandler] = {}
    for built in features:
        declarations.append(getattr(built, DECLARATION))
        for name in dir(type(built)):
            method = getattr(built, name, None)
            for key in getattr(method, IQ_HANDLERS, ()):
                if key in iq:
                    raise ValueError(f"two features handle {key}: the second is {type(built).__name__}")
                iq[key] = method  # type: ignore[assignment]
            for kind in getattr(method, PRESENCE_TYPES, ()):
                if kind in presence:
                    raise ValueError(f"two features handle presence {kind}: the second is {type(built).__name__}")
                presence[kind] = method  # type: ignore[assignment]
            for tag in getattr(method, MESSAGE_PARTS, ()):
                if tag in parts:
                    raise ValueError(f"two features take {tag} out of messages: the second is {type(built).__name__}")
                parts[tag] = method  # type: ignore[assignment]
    return Handlers(iq, presence, tuple(declarations), parts)
