"""The message archive of an account (XEP-0313, ``urn:xmpp:mam:2`` with ``#extended``).

Archive ids are the positions of the mailbox, in decimal. Pages follow XEP-0059; ``before`` and ``after`` may be ids that
were purged, because ids are ordered; ids that were never given out are refused (XEP-0313 s4.1.3).
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, FeatureNotImplemented, Forbidden, NotFound, ServiceUnavailable
from homeserver.domain.messages import Entry, Page, PageRequest
from homeserver.domain.search import Query, parse
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element, child, element, escape_attribute, text_of
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.presence import Presence
from homeserver.services.retention import Pages
from homeserver.services.search import Search
from homeserver.xmpp import render
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

_FULL_TEXT: Final = f"{{{ns.FULL_TEXT}}}fulltext"
_KNOWN_FIELDS: Final = frozenset(("FORM_TYPE", "with", "start", "end", "before-id", "after-id", "ids", _FULL_TEXT))
_MAX_IDS: Final = 100
_MAX_SCANS: Final = 20


@feature(
    xep=313,
    version="1.1.3",
    # XEP-0313 s7 asks for the account's answer only, but clients exist that look at the domain alone, profanity for one.
    disco=(ns.ARCHIVE, ns.ARCHIVE_EXTENDED, ns.FULL_TEXT),
    account_disco=(ns.ARCHIVE, ns.ARCHIVE_EXTENDED, ns.FULL_TEXT, ns.STANZA_ID),
)
class Archive:
    """Answers archive queries of the account's own sessions."""

    mailboxes: Mailboxes
    pages: Pages
    presence: Presence
    search: Search

    @on_iq("get", ns.ARCHIVE, "query")
    async def form(self, _request: IqRequest) -> Element | None:
        """The fields a query may use (XEP-0313 s4.1.5)."""
        form = element(ns.DATA_FORM, "x", {"type": "form"})
        form.append(
            element(
                ns.DATA_FORM,
                "field",
                {"type": "hidden", "var": "FORM_TYPE"},
                element(ns.DATA_FORM, "value", {}, ns.ARCHIVE),
            )
        )
        for name in ("with", "start", "end", "before-id", "after-id", _FULL_TEXT):
            kind = "jid-single" if name == "with" else "text-single"
            form.append(element(ns.DATA_FORM, "field", {"type": kind, "var": name}))
        ids = element(ns.DATA_FORM, "field", {"type": "list-multi", "var": "ids"})
        ids.append(element(ns.DATA_VALIDATE, "validate", {"datatype": "xs:string"}, element(ns.DATA_VALIDATE, "open")))
        form.append(ids)
        return element(ns.ARCHIVE, "query", {}, form)

    @on_iq("set", ns.ARCHIVE, "query")
    async def query(self, request: IqRequest) -> Element | None:
        """One page of results, then the summary (XEP-0313 s4.2)."""
        if request.session is None or request.account is None or request.respond is None:
            raise Forbidden
        wanted, exact = await self._wanted(request.account, request.payload)
        if wanted.limit == 0:
            return await self._counted(request.account, wanted, exact)
        page = await self._page(request.account, wanted, exact)
        shown = reversed(page.entries) if child(request.payload, ns.ARCHIVE, "flip-page") is not None else page.entries
        query_id = request.payload.get("queryid")
        owner, to = request.account.jid.bare, str(request.session.jid)
        for entry in shown:
            request.respond(render.archive_result(entry, query_id, owner, to))
        request.session.has_read(entry.id for entry in page.entries)
        return _fin(page)

    @on_iq("get", ns.ARCHIVE, "metadata")
    async def metadata(self, request: IqRequest) -> Element | None:
        """Ids and times of the oldest and the newest message (XEP-0313 s5)."""
        if request.account is None:
            raise Forbidden
        return await self.describe(request.account)

    async def describe(self, account: Account) -> Element:
        """The ``<metadata/>`` of an account's archive; Bind 2 tells it too (XEP-0386 s3.2)."""
        made = element(ns.ARCHIVE, "metadata")
        first, last = await self.mailboxes.metadata(account)
        for name, entry in (("start", first), ("end", last)):
            if entry is not None:
                made.append(element(ns.ARCHIVE, name, {"id": str(entry.id), "timestamp": render.stamp(entry.at)}))
        return made

    @on_iq("set", ns.ARCHIVE, "query", to=Addressee.ACCOUNT)
    async def query_of_another(self, request: IqRequest) -> Element | None:
        """Nobody reads another account's archive (XEP-0313 s6.2). Strangers are not told that there is one."""
        if request.account is not None and await self.presence.may_see(request.account, request.sender):
            raise Forbidden
        raise ServiceUnavailable

    async def _wanted(self, account: Account, query: Element) -> tuple[PageRequest, JID | None]:
        fields = _fields(query)
        with_jid = _jid(fields["with"][0]) if fields.get("with") else None
        ids = tuple(_id(text) for text in fields["ids"]) if "ids" in fields else None
        if ids is not None and len(ids) > _MAX_IDS:
            raise BadRequest(f"At most {_MAX_IDS} ids in one query")
        after, before = _optional_id(fields.get("after-id")), _optional_id(fields.get("before-id"))
        for named in (*(ids or ()), after, before):
            if named is not None and await self.mailboxes.find(account, named) is None:
                raise NotFound
        wanted = PageRequest(
            limit=self.pages.default,
            peer=with_jid.bare if with_jid else None,
            after=after,
            before=before,
            start=_time(fields.get("start")),
            end=_time(fields.get("end")),
            ids=ids,
            words=await self._words(fields.get(_FULL_TEXT)),
        )
        exact = with_jid if with_jid is not None and with_jid.resource else None
        return await self._with_result_set(account, wanted, child(query, ns.RESULT_SET, "set")), exact

    async def _with_result_set(self, account: Account, wanted: PageRequest, rsm: Element | None) -> PageRequest:
        """Apply XEP-0059: bounds from the form and from the page are both kept, the tighter one wins."""
        if rsm is None:
            return wanted
        limit = text_of(rsm, ns.RESULT_SET, "max")
        if limit is not None:
            if not (limit.isascii() and limit.isdigit()):
                raise BadRequest("max is a number")
            wanted = replace(wanted, limit=min(int(limit[:6]), self.pages.most))
        before, after = text_of(rsm, ns.RESULT_SET, "before"), text_of(rsm, ns.RESULT_SET, "after")
        if after:
            bound = await self._known(account, after)
            wanted = replace(wanted, after=bound if wanted.after is None else max(wanted.after, bound))
        if before is not None:
            wanted = replace(wanted, backwards=True)
            if before:
                bound = await self._known(account, before)
                wanted = replace(wanted, before=bound if wanted.before is None else min(wanted.before, bound))
        return wanted

    async def _words(self, values: list[str] | None) -> Query | None:
        """What the text must hold (XEP-0431 s3.1); an empty field is none. Everything durable can be found."""
        if not values or not values[0].strip():
            return None
        wanted = parse(values[0])
        await self.search.catch_up()
        return wanted

    async def _known(self, account: Account, text: str) -> int:
        found = _id(text)
        if await self.mailboxes.find(account, found) is None:
            raise NotFound  # XEP-0059 s2.2
        return found

    async def _counted(self, account: Account, wanted: PageRequest, exact: JID | None) -> Element:
        """No messages, only how many there are (XEP-0059 s2.6); a full JID in ``with`` is not counted."""
        rsm = element(ns.RESULT_SET, "set")
        if exact is None:
            rsm.append(element(ns.RESULT_SET, "count", {}, str(await self.mailboxes.count(account, wanted))))
        return element(ns.ARCHIVE, "fin", {}, rsm)

    async def _page(self, account: Account, wanted: PageRequest, exact: JID | None) -> Page:
        page = await self.mailboxes.page(account, wanted)
        if exact is None:
            return page
        # A full JID in `with` is rare: take pages of the bare JID and keep what names the resource.
        kept: list[Entry] = []
        for _ in range(_MAX_SCANS):
            fitting = [entry for entry in page.entries if _names(entry, exact)]
            kept = fitting + kept if wanted.backwards else kept + fitting
            if page.complete or len(kept) >= wanted.limit or not page.entries:
                break
            if wanted.backwards:
                wanted = replace(wanted, before=page.entries[0].id)
            else:
                wanted = replace(wanted, after=page.entries[-1].id)
            page = await self.mailboxes.page(account, wanted)
        cut = kept[-wanted.limit :] if wanted.backwards else kept[: wanted.limit]
        return Page(cut, page.complete and len(kept) <= wanted.limit)


def _fields(query: Element) -> dict[str, list[str]]:
    form = child(query, ns.DATA_FORM, "x")
    if form is None:
        return {}
    fields = forms.parse(form).fields
    for name in fields:
        if name not in _KNOWN_FIELDS:
            raise FeatureNotImplemented(f"No such filter: {name[:64]}")
    if fields.get("FORM_TYPE", [ns.ARCHIVE]) != [ns.ARCHIVE]:
        raise BadRequest("The form is of another type")
    return fields


def _fin(page: Page) -> Element:
    rsm = element(ns.RESULT_SET, "set")
    if page.entries:
        rsm.append(element(ns.RESULT_SET, "first", {}, str(page.entries[0].id)))
        rsm.append(element(ns.RESULT_SET, "last", {}, str(page.entries[-1].id)))
    return element(ns.ARCHIVE, "fin", {"complete": "true"} if page.complete else {}, rsm)


def _jid(text: str) -> JID:
    try:
        return JID.parse(text)
    except InvalidJID as error:
        raise BadRequest("with is not an address") from error


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise NotFound  # XEP-0313 s4.1.3: an id that is not in the archive
    return int(text)


def _optional_id(values: list[str] | None) -> int | None:
    return _id(values[0]) if values and values[0] else None


def _time(values: list[str] | None) -> int | None:
    if not values or not values[0]:
        return None
    try:
        found = datetime.fromisoformat(values[0])
    except ValueError as error:
        raise BadRequest("start and end are XEP-0082 times") from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1_000_000)


def _names(entry: Entry, jid: JID) -> bool:
    """Whether the full JID is the sender or the recipient written in the payload's start tag."""
    start = entry.payload[: entry.payload.find(b">")].decode()
    quoted = escape_attribute(str(jid))
    return any(f"{name}={quote}{quoted}{quote}" in start for name in ("from", "to") for quote in "'\"")
