"""One client connection: events of the protocol core become calls, and what services say becomes bytes.

Input is handled strictly in order. Whatever has to wait (a look-up, a handler that reads the store) holds up what the
same client sent behind it; the socket is not read meanwhile, so a client cannot queue work here.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from client_api.xmpp.negotiation import Negotiation, Peer
from client_api.xmpp.resumption import Resumption
from client_api.xmpp.session import XmppSession
from homeserver.domain.messages import Stored
from homeserver.protocol import c2s
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.stanza import IQ, MESSAGE, Stanza, StanzaError, error_reply
from homeserver.protocol.xml import Element, serialise
from homeserver.services.clock import Clock
from homeserver.services.limits import Bucket
from homeserver.services.mailboxes import Mailboxes
from homeserver.xmpp.dispatch import Dispatcher

log = structlog.get_logger(__name__)


class Wire(Protocol):
    """A byte pipe to a client: TCP, TLS or WebSocket frames."""

    def write(self, data: bytes) -> None: ...
    def unsent(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
