"""Push notifications: what a client enables and disables (XEP-0357 s5, s6)."""

from homeserver.domain.errors import BadRequest, JidMalformed
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.forms import InvalidForm
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element
from homeserver.services.push import AppServers
from homeserver.xmpp.feature import IqRequest, feature, on_iq


@feature(xep=357, version="0.4.1", account_disco=(ns.PUSH,))
class Push:
    """Keeps the app servers of an account; only the account itself may name any."""

    registrations: AppServers

    @on_iq("set", ns.PUSH, "enable")
    async def enable(self, request: IqRequest) -> Element | None:
        """XEP-0357 s5. A form of another type is ignored."""
        assert request.account is not None
        service = _service(request.payload)
        try:
            form = forms.find(request.payload, ns.PUBSUB_PUBLISH_OPTIONS)
        except InvalidForm as error:
            raise BadRequest(str(error)) from error
        options = form.fields.items() if form is not None else ()
        client = None if request.session is None else request.session.device
        await self.registrations.enable(request.account, service, request.payload.get("node"), options, client=client)
        return None

    @on_iq("set", ns.PUSH, "disable")
    async def disable(self, request: IqRequest) -> Element | None:
        """XEP-0357 s6. What was not enabled is disabled already."""
        assert request.account is not None
        await self.registrations.disable(
            request.account, _service(request.payload), request.payload.get("node") or None
        )
        return None


def _service(payload: Element) -> JID:
    address = payload.get("jid")
    if not address:
        raise BadRequest("The address of the app server is needed")
    try:
        return JID.parse(address)
    except InvalidJID as error:
        raise JidMalformed("The address of the app server is not an address") from error
