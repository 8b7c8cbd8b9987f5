"""Bookmarks (XEP-0402, XEP-0048, XEP-0411): the server keeps all shapes in step, and says so."""

from homeserver.protocol import namespaces as ns
from homeserver.services.bookmarks import Bookmarks
from homeserver.xmpp.feature import feature


@feature(xep=402, version="1.2.0", account_disco=(ns.BOOKMARKS_COMPAT, ns.BOOKMARKS_COMPAT_PEP))
class NativeBookmarks:
    """An item per room; what clients write to the older places arrives here, and the other way round."""

    bookmarks: Bookmarks


@feature(xep=411, version="1.1.0", account_disco=(ns.BOOKMARKS_CONVERSION,))
class BookmarksConversion:
    """The list in private storage and the list in its node are the same."""

    bookmarks: Bookmarks
