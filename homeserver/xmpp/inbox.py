"""The list of conversations with what is unread in each (XEP-0430)."""

from typing import Final

from homeserver.domain.errors import BadRequest, Forbidden, NotFound
from homeserver.domain.messages import Conversation
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, child, element, escape_attribute, text_of
from homeserver.services.inbox import Inbox
from homeserver.services.retention import Pages
from homeserver.xmpp import render
from homeserver.xmpp.feature import IqRequest, feature, on_iq

MOST_CONVERSATIONS: Final = 1000
"""Those that are counted and listed, the newest."""
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}


@feature(xep=430, version="0.2.0", disco=(ns.INBOX,), account_disco=(ns.INBOX,))
class Conversations:
    """Answers for the newest conversations of the account's own sessions, newest first."""

    inbox: Inbox
    pages: Pages

    @on_iq("get", ns.INBOX, "inbox")
    async def query(self, request: IqRequest) -> Element | None:
        """An entry per conversation, then the totals (XEP-0430 s3.1). The ids of XEP-0059 are those of the archive."""
        if request.session is None or request.account is None or request.respond is None:
            raise Forbidden
        found = await self.inbox.conversations(request.account, None, MOST_CONVERSATIONS)
        unread = [conversation for conversation in found if conversation.unread]
        listed = unread if _flag(request.payload, "unread-only", False) else found
        shown = self._page(listed, child(request.payload, ns.RESULT_SET, "set"))
        with_messages = _flag(request.payload, "messages", True)
        for conversation in shown:
            request.respond(_message(conversation, request, with_messages))
        rsm = element(ns.RESULT_SET, "set")
        if shown:
            rsm.append(element(ns.RESULT_SET, "first", {"index": str(listed.index(shown[0]))}, str(shown[0].last.id)))
            rsm.append(element(ns.RESULT_SET, "last", {}, str(shown[-1].last.id)))
        rsm.append(element(ns.RESULT_SET, "count", {}, str(len(listed))))
        totals = {
            "total": str(len(found)),
            "unread": str(len(unread)),
            "all-unread": str(sum(conversation.unread for conversation in found)),
        }
        return element(ns.INBOX, "fin", totals, rsm)

    def _page(self, listed: list[Conversation], rsm: Element | None) -> list[Conversation]:
        """The part that XEP-0059 asks for. ``after`` goes to older conversations, ``before`` to newer ones."""
        if rsm is None:
            return listed[: self.pages.default]
        limit = self.pages.default
        wanted = text_of(rsm, ns.RESULT_SET, "max")
        if wanted is not None:
            limit = min(_number(wanted), self.pages.most)
        after, before = text_of(rsm, ns.RESULT_SET, "after"), text_of(rsm, ns.RESULT_SET, "before")
        places = {str(conversation.last.id): place for place, conversation in enumerate(listed)}
        for named in (after, before):
            if named and named not in places:
                raise NotFound("The conversation has changed")  # XEP-0059 s2.2
        low = places[after] + 1 if after else 0
        high = places[before] if before else len(listed)
        if before is not None:
            low = max(low, high - limit)
        return listed[low : min(high, low + limit)]


def _message(conversation: Conversation, request: IqRequest, with_message: bool) -> bytes:
    session, account = request.session, request.account
    owner = account.jid.bare if account is not None else ""
    to = str(session.jid) if session is not None else ""
    entry = (
        f"<entry xmlns='{ns.INBOX}' jid='{escape_attribute(conversation.peer)}'"
        f" unread='{conversation.unread}' id='{conversation.last.id}'/>"
    )
    if with_message and conversation.shown is not None:
        result = render.archive_result(conversation.shown, request.stanza.id, owner, to)
        head = result.find(b">") + 1
        return result[:head] + entry.encode() + result[head:]
    start = f"<message from='{escape_attribute(owner)}' to='{escape_attribute(to)}'>"
    return f"{start}{entry}</message>".encode()


def _flag(query: Element, name: str, default: bool) -> bool:
    text = query.get(name)
    if text is None:
        return default
    if text not in _TRUTH:
        raise BadRequest(f"{name} is true or false")
    return _TRUTH[text]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadRequest("max is a number")
    return int(text[:6])
