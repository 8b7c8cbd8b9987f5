"""Search in the directory of a domain (XEP-0055), for its own accounts. A name is the localpart of the address."""

from collections.abc import Sequence
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, Forbidden
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element, text_of
from homeserver.services.directory import Directory
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

INSTRUCTIONS: Final = "Enter the beginning of a name to find accounts of this domain."
_LABEL: Final = "Name"


@feature(xep=55, version="1.3", disco=(ns.SEARCH,))
class Search:
    """Answers at the address of the domain."""

    directory: Directory

    @on_iq("get", ns.SEARCH, "query", to=Addressee.DOMAIN)
    async def fields(self, request: IqRequest) -> Element | None:
        """XEP-0055 s2.1, s3: what can be searched by, as element and as form."""
        _asker(request)
        shown = (forms.Field("nick", type="text-single", label=_LABEL),)
        return element(
            ns.SEARCH,
            "query",
            None,
            element(ns.SEARCH, "instructions", None, INSTRUCTIONS),
            element(ns.SEARCH, "nick"),
            forms.build("form", ns.SEARCH, shown, "Directory", INSTRUCTIONS),
        )

    @on_iq("set", ns.SEARCH, "query", to=Addressee.DOMAIN)
    async def search(self, request: IqRequest) -> Element | None:
        """XEP-0055 s2.1, s3: the answer has the form of the question."""
        asker = _asker(request)
        try:
            form = forms.find(request.payload)
        except forms.InvalidForm as error:
            raise BadRequest("this is no search") from error
        if form is not None:
            return _as_form(await self.directory.search(asker, form.first("nick")))
        found = await self.directory.search(asker, text_of(request.payload, ns.SEARCH, "nick") or "")
        return element(ns.SEARCH, "query", None, *map(_item, found))


def _asker(request: IqRequest) -> Account:
    """The account that asks; the directory is for its own domain alone. Raises `Forbidden`."""
    to = request.stanza.to
    if request.session is None or to is None or to.domain != request.session.account.jid.domain:
        raise Forbidden("the directory is for accounts of this domain")
    return request.session.account


def _item(found: Account) -> Element:
    return element(ns.SEARCH, "item", {"jid": found.jid.bare}, element(ns.SEARCH, "nick", None, found.jid.local or ""))


def _as_form(found: Sequence[Account]) -> Element:
    if not found:
        return element(ns.SEARCH, "query")
    made = forms.build("result", ns.SEARCH)
    columns = (
        forms.Field("nick", type="text-single", label=_LABEL),
        forms.Field("jid", type="jid-single", label="Address"),
    )
    made.append(element(ns.DATA_FORM, "reported", None, *(column.to_element() for column in columns)))
    for account in found:
        cells = (forms.Field("nick", (account.jid.local or "",)), forms.Field("jid", (account.jid.bare,)))
        made.append(element(ns.DATA_FORM, "item", None, *(cell.to_element() for cell in cells)))
    return element(ns.SEARCH, "query", None, made)
