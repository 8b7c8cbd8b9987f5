"""What every request of publish-subscribe is read by: host, asker, the element that says what is wanted."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from homeserver.domain.errors import BadRequest, JidMalformed, NotAcceptable
from homeserver.protocol import forms
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element, local_name, namespace_of
from homeserver.services.pubsub import refusals
from homeserver.xmpp.feature import Addressee, IqRequest

ADDRESSEES: Final = (Addressee.OWN_ACCOUNT, Addressee.ACCOUNT, Addressee.PUBSUB)
Verb = Callable[[IqRequest, Element], Awaitable[Element | None]]


def host_of(request: IqRequest) -> JID:
    """The host that a request is for."""
    if request.account is not None:
        return request.account.jid
    assert request.stanza.to is not None
    return request.stanza.to.to_bare()


async def carry_out(request: IqRequest, verbs: Mapping[str, Verb], unsupported: Mapping[str, str]) -> Element | None:
    """Do what the first known element in ``<pubsub/>`` says. ``unsupported`` names features by the elements that ask for
    them. Raises `BadRequest`, and `InvalidForm` never."""
    namespace = namespace_of(request.payload)
    for found in request.payload:
        if namespace_of(found) != namespace:
            continue
        verb = verbs.get(local_name(found))
        if verb is not None:
            try:
                return await verb(request, found)
            except forms.InvalidForm as error:
                raise BadRequest(str(error)) from error
        feature = unsupported.get(local_name(found))
        if feature is not None:
            raise refusals.unsupported(feature)
    raise BadRequest("nothing was asked for")


def jid_of(text: str | None) -> JID:
    """An address from an attribute. Raises `BadRequest` where there is none, `JidMalformed` for one that is none."""
    if not text:
        raise BadRequest("an address is missing")
    try:
        return JID.parse(text)
    except InvalidJID as error:
        raise JidMalformed from error


def number_of(text: str | None) -> int | None:
    """A number from an attribute, None where there is none. Raises `NotAcceptable`."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise NotAcceptable("not a number")
    return int(text)
