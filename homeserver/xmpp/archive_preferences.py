"""Archive preferences (XEP-0441): whose messages an account archives."""

from collections.abc import Iterable

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, Forbidden, JidMalformed
from homeserver.domain.privacy import ArchivePreferences, Archiving
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element, child, children, element
from homeserver.services.privacy import Privacy
from homeserver.xmpp.feature import IqRequest, feature, on_iq


@feature(xep=441, version="0.2.0")
class Preferences:
    """Get and set, for the account itself only. It has no feature of its own in service discovery."""

    privacy: Privacy

    @on_iq("get", ns.ARCHIVE, "prefs")
    async def get(self, request: IqRequest) -> Element | None:
        """XEP-0441 s2.1."""
        return _written((await self.privacy.load(_own(request))).archive)

    @on_iq("set", ns.ARCHIVE, "prefs")
    async def set(self, request: IqRequest) -> Element | None:
        """XEP-0441 s2.1: the answer says what holds now."""
        try:
            default = Archiving(request.payload.get("default", ""))
        except ValueError as error:
            raise BadRequest("the default is always, never or roster") from error
        lists = [frozenset(_jids(child(request.payload, ns.ARCHIVE, name))) for name in ("always", "never")]
        return _written(await self.privacy.set_archive(_own(request), ArchivePreferences(default, *lists)))


def _own(request: IqRequest) -> Account:
    if request.account is None:
        raise Forbidden
    return request.account


def _written(found: ArchivePreferences) -> Element:
    made = element(ns.ARCHIVE, "prefs", {"default": found.default.value})
    for name, jids in (("always", found.always), ("never", found.never)):
        listed = (element(ns.ARCHIVE, "jid", None, jid) for jid in sorted(jids))
        made.append(element(ns.ARCHIVE, name, None, *listed))
    return made


def _jids(listed: Element | None) -> Iterable[str]:
    if listed is None:
        return
    for part in children(listed, ns.ARCHIVE, "jid"):
        try:
            yield str(JID.parse((part.text or "").strip()))
        except InvalidJID as error:
            raise JidMalformed(str(error)) from error
