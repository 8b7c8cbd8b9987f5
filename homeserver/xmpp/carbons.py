"""Copies of a conversation to an account's other sessions (XEP-0280).

Which messages are copied is decided in ``core_message.py``, who gets one in ``services/delivery.py``; here a session
says whether it wants them.
"""

from homeserver.domain.errors import NotAllowed
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from homeserver.xmpp.feature import IqRequest, feature, on_iq


@feature(xep=280, version="1.0.1", disco=(ns.CARBONS, ns.CARBONS_RULES), account_disco=(ns.CARBONS,))
class Carbons:
    """Switches copies on and off for one session."""

    @on_iq("set", ns.CARBONS, "enable")
    async def enable(self, request: IqRequest) -> Element | None:
        """XEP-0280 s4."""
        return self._want(request, True)

    @on_iq("set", ns.CARBONS, "disable")
    async def disable(self, request: IqRequest) -> Element | None:
        """XEP-0280 s5."""
        return self._want(request, False)

    @staticmethod
    def _want(request: IqRequest, wanted: bool) -> None:
        if request.session is None:
            raise NotAllowed
        request.session.wants_copies = wanted
