"""The blocking command (XEP-0191)."""

import asyncio
import secrets
from collections.abc import Sequence

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, Forbidden, JidMalformed
from homeserver.domain.sessions import Session
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.stanza import IQ, Stanza
from homeserver.protocol.xml import Element, children, element
from homeserver.services.blocking import Blocking
from homeserver.services.reports import Reports
from homeserver.services.sessions import Sessions
from homeserver.xmpp import reporting
from homeserver.xmpp.feature import IqRequest, feature, on_iq


@feature(xep=191, version="1.3", disco=(ns.BLOCKING,), account_disco=(ns.BLOCKING,))
class BlockingCommand:
    """Get, block and unblock; sessions that asked for the list are told of changes."""

    blocking: Blocking
    sessions: Sessions
    reports: Reports

    def __post_init__(self) -> None:
        self.blocking.on_change.append(self._changed)

    @on_iq("get", ns.BLOCKING, "blocklist")
    async def get(self, request: IqRequest) -> Element | None:
        """XEP-0191 s3.2."""
        if request.session is None or request.account is None:
            raise Forbidden
        listed = await self.blocking.list(request.account)
        request.session.wants_blocks = True
        return element(ns.BLOCKING, "blocklist", None, *_items(listed))

    @on_iq("set", ns.BLOCKING, "block")
    async def block(self, request: IqRequest) -> Element | None:
        """XEP-0191 s3.3, and reports with it (XEP-0377 s6)."""
        account = _own(request)
        items = list(children(request.payload, ns.BLOCKING, "item"))
        jids = [_jid(item) for item in items]
        found = [reporting.read(item, jid) for item, jid in zip(items, jids, strict=True)]
        await self.blocking.block(account, jids)
        await reporting.keep(self.reports, account, [one for one in found if one is not None])
        return None

    @on_iq("set", ns.BLOCKING, "unblock")
    async def unblock(self, request: IqRequest) -> Element | None:
        """XEP-0191 s3.4, s3.5: those that are named, or all."""
        jids = [_jid(item) for item in children(request.payload, ns.BLOCKING, "item")]
        await self.blocking.unblock(_own(request), jids or None)
        return None

    def _changed(self, account: Account, blocks: bool, jids: Sequence[JID]) -> None:
        """Tell the sessions that asked for the list; the one that changed it has its answer first."""
        for session in self.sessions.of(account.jid.bare):
            if session.wants_blocks:
                asyncio.get_running_loop().call_soon(_push, session, blocks, [str(jid) for jid in jids])


def _push(session: Session, blocks: bool, jids: Sequence[str]) -> None:
    push = Element(IQ, {"type": "set", "id": secrets.token_urlsafe(9)})
    push.append(element(ns.BLOCKING, "block" if blocks else "unblock", None, *_items(jids)))
    session.send(Stanza(push, session.account.jid, session.jid))


def _items(jids: Sequence[str]) -> list[Element]:
    return [element(ns.BLOCKING, "item", {"jid": jid}) for jid in jids]


def _own(request: IqRequest) -> Account:
    if request.account is None:
        raise Forbidden
    return request.account


def _jid(item: Element) -> JID:
    text = item.get("jid")
    if text is None:
        raise BadRequest("an item has an address")
    try:
        return JID.parse(text)
    except InvalidJID as error:
        raise JidMalformed(str(error)) from error
