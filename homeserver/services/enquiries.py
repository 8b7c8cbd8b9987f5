"""Questions this server asks by IQ, and their answers.

An answer is taken only from the address that was asked, at the address that asked (threats, design rule on answers of
third parties). Ids are random, so that nobody can answer ahead.
"""

import asyncio
import secrets
from typing import Final

from homeserver.domain.errors import RemoteServerTimeout, ResourceConstraint
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import IQ, Stanza
from homeserver.protocol.xml import Element
from homeserver.services.router import Router

TIMEOUT: Final = 30.0
MAX_OPEN: Final = 10_000


class Enquiries:
    """Asks clients and other servers, in the name of a domain, a service or an account of this server."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._open: dict[str, tuple[JID, JID, asyncio.Future[Stanza]]] = {}

    async def ask(
        self,
        sender: JID,
        to: JID,
        payload: Element,
        kind: str = "get",
        timeout: float = TIMEOUT,  # noqa: ASYNC109
    ) -> Element | None:
        """Send an IQ of type ``kind`` and return the payload of its result, None for an empty one.

        Raises `RemoteServerTimeout` where no result came within ``timeout`` seconds, an error included;
        `ResourceConstraint` where too many questions are open.
        """
        stanza = await self.exchange(sender, to, payload, kind, timeout)
        if stanza.type == "error":
            raise RemoteServerTimeout
        return next(iter(stanza.element), None)

    async def exchange(
        self,
        sender: JID,
        to: JID,
        payload: Element,
        kind: str,
        timeout: float,  # noqa: ASYNC109
    ) -> Stanza:
        """Send an IQ of type ``kind`` and return the answer, a result or an error.

        Raises `RemoteServerTimeout` where none came within ``timeout`` seconds; `ResourceConstraint` where too many
        questions are open.
        """
        if len(self._open) >= MAX_OPEN:
            raise ResourceConstraint("Too many questions are open")
        id_ = secrets.token_urlsafe(12)
        request = Element(IQ, {"type": kind, "id": id_})
        request.append(payload)
        answer: asyncio.Future[Stanza] = asyncio.get_running_loop().create_future()
        self._open[id_] = (sender, to, answer)
        try:
            self._router.route(Stanza(request, sender, to))
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise RemoteServerTimeout from None
        finally:
            del self._open[id_]

    def answered(self, stanza: Stanza) -> bool:
        """Take an IQ of type result or error; false where nobody here asked that address."""
        waiting = self._open.get(stanza.id or "")
        if waiting is None:
            return False
        asker, asked, answer = waiting
        own = stanza.to is None or stanza.to == asker
        if not own or not (stanza.sender == asked or (stanza.to is None and asked.bare == stanza.sender.bare)):
            return False
        if not answer.done():
            answer.set_result(stanza)
        return True
