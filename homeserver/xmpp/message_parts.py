"""What clients put into messages for their own server: it is taken out before the message is stored or goes anywhere."""

from collections.abc import Mapping

import structlog

from homeserver.domain.errors import DomainError
from homeserver.domain.sessions import Session
from homeserver.protocol.xml import Element, namespace_of
from homeserver.xmpp.feature import PartHandler

log = structlog.get_logger(__name__)


class MessageParts:
    """Finds and hands over the children that features asked for; see `homeserver.xmpp.feature.on_message_part`."""

    def __init__(self, handlers: Mapping[str, PartHandler]) -> None:
        self._handlers = handlers
        self._traces = tuple({namespace_of(Element(tag)).encode() for tag in handlers})

    def may_have(self, element: Element, raw: bytes | None) -> bool:
        """Whether there is such a child. A message whose bytes do not have the namespace is told quickly."""
        if raw is not None:
            for trace in self._traces:
                if trace in raw:
                    break
            else:
                return False
        return any(part.tag in self._handlers for part in element)

    async def take(self, session: Session, element: Element) -> None:
        """Take the children out and hand them over. A refusal does not keep the message back."""
        for part in [part for part in element if part.tag in self._handlers]:
            element.remove(part)
            part.tail = None
            try:
                await self._handlers[part.tag](session, element.get("to", session.jid.bare), part)
            except DomainError as refusal:
                log.info("a part of a message was refused", account=session.jid.bare, reason=type(refusal).__name__)
