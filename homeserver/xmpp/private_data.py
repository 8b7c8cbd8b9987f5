"""Private XML storage (XEP-0049). Bookmarks among it are those of all clients (XEP-0411)."""

from collections.abc import Iterable

from homeserver.domain.errors import NotAcceptable
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element, namespace_of, parse_own, serialise
from homeserver.services.bookmarks import DOCUMENT, Bookmarks
from homeserver.services.private_data import PrivateData
from homeserver.xmpp.feature import IqRequest, feature, on_iq


@feature(xep=49, version="1.2", disco=(ns.PRIVATE,), account_disco=(ns.PRIVATE,))
class PrivateStorage:
    """Keeps elements by their name, for the account itself; everyone else is told what a stranger is told (s2.3)."""

    private: PrivateData
    bookmarks: Bookmarks

    @on_iq("get", ns.PRIVATE, "query")
    async def read(self, request: IqRequest) -> Element | None:
        """XEP-0049 s2.3: what was stored, or the element as it was asked for."""
        assert request.account is not None
        asked = _parts(request.payload)
        if len(asked) > 1:
            raise NotAcceptable("one element is asked for at a time", kind="modify")
        made = element(ns.PRIVATE, "query")
        if asked[0].tag == DOCUMENT:
            made.append(await self.bookmarks.stored(request.account))
            return made
        found = await self.private.find(request.account, asked[0].tag)
        made.extend([Element(asked[0].tag)] if found is None else parse_own(b"<all>" + found + b"</all>"))
        return made

    @on_iq("set", ns.PRIVATE, "query")
    async def write(self, request: IqRequest) -> Element | None:
        """XEP-0049 s2.3: elements of one name replace those that were there."""
        assert request.account is not None
        documents: dict[str, bytes] = {}
        lists = []
        for part in _parts(request.payload):
            if part.tag == DOCUMENT:
                lists.append(part)
            else:
                documents[part.tag] = documents.get(part.tag, b"") + _text(part)
        if documents:
            await self.private.put(request.account, documents)
        for storage in lists:
            await self.bookmarks.replace(request.account, storage)
        return None


def _parts(query: Iterable[Element]) -> list[Element]:
    """What is in a query. Raises `NotAcceptable` where there is nothing, or something without a namespace of its own."""
    found = list(query)
    if not found or any(namespace_of(part) in ("", ns.PRIVATE) for part in found):
        raise NotAcceptable("an element with a namespace of its own is needed", kind="modify")
    return found


def _text(part: Element) -> bytes:
    part.tail = None
    return serialise(part, "").encode()
