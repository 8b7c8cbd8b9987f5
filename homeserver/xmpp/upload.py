"""HTTP file upload (XEP-0363): slots, asked for at the upload service of a domain."""

from datetime import UTC, datetime
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, Forbidden, NotAcceptable, NotFound, RateLimited
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, child, element
from homeserver.services.accounts import Accounts
from homeserver.services.files import Files
from homeserver.services.router import Router
from homeserver.xmpp import catalogue, render
from homeserver.xmpp.catalogue import Identity
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

NAME: Final = "HTTP File Upload"
MAX_ATTRIBUTE: Final = 1023
PURPOSES: Final = ("message", "ephemeral")
"""Those that change nothing, or only end a file sooner (XEP-0363 s5.1, s5.3)."""


@feature(xep=363, version="1.2.0")
class Upload:
    """What the upload service of a domain is, and slots for accounts of this server."""

    accounts: Accounts
    files: Files
    router: Router

    @on_iq("get", ns.DISCO_INFO, "query", to=Addressee.UPLOAD)
    async def info(self, request: IqRequest) -> Element | None:
        """XEP-0363 s3."""
        _refuse_node(request)
        size = forms.Field("max-file-size", (str(self.files.max_bytes),))
        features = {ns.DISCO_INFO, ns.DISCO_ITEMS, ns.UPLOAD}
        features |= {f"{ns.UPLOAD_PURPOSE}#{purpose}" for purpose in PURPOSES}
        return catalogue.info([Identity("store", "file", NAME)], features, [forms.build("result", ns.UPLOAD, [size])])

    @on_iq("get", ns.DISCO_ITEMS, "query", to=Addressee.UPLOAD)
    async def items(self, request: IqRequest) -> Element | None:
        """It has none that could be listed."""
        _refuse_node(request)
        return element(ns.DISCO_ITEMS, "query")

    @on_iq("get", ns.UPLOAD, "request", to=Addressee.UPLOAD)
    async def slot(self, request: IqRequest) -> Element | None:
        """XEP-0363 s4 to s6."""
        account = await self._uploader(request)
        wanted = request.payload
        name, size, kind = wanted.get("filename", ""), wanted.get("size", ""), wanted.get("content-type") or None
        if not name or len(name) > MAX_ATTRIBUTE:
            raise BadRequest("filename is missing or too long")
        if not size.isascii() or not size.isdigit() or len(size) > MAX_ATTRIBUTE or not size.strip("0"):
            raise BadRequest("size is a number of bytes, at least 1")
        if len(size.lstrip("0")) > len(str(self.files.max_bytes)) or int(size) > self.files.max_bytes:
            raise self._too_large()
        try:
            permit = await self.files.permit(account, name, int(size), kind, _keep_until(wanted))
        except RateLimited as refusal:
            stamp = render.stamp(int((self.files.now() + refusal.retry_after) * 1_000_000))
            retry = element(ns.UPLOAD, "retry", {"stamp": stamp})
            raise RateLimited(refusal.text, refusal.retry_after, retry) from refusal
        header = element(ns.UPLOAD, "header", {"name": "Authorization"}, f"Bearer {permit.token}")
        return element(
            ns.UPLOAD,
            "slot",
            None,
            element(ns.UPLOAD, "put", {"url": permit.url}, header),
            element(ns.UPLOAD, "get", {"url": permit.url}),
        )

    async def _uploader(self, request: IqRequest) -> Account:
        sender = request.sender
        account = await self.accounts.active(sender.bare) if self.router.is_local(sender.domain) else None
        if account is None:
            raise Forbidden("Only accounts of this server may upload files")
        return account

    def _too_large(self) -> NotAcceptable:
        most = str(self.files.max_bytes)
        found = element(ns.UPLOAD, "file-too-large", None, element(ns.UPLOAD, "max-file-size", None, most))
        return NotAcceptable(f"File too large. The maximum file size is {most} bytes", found)


def _refuse_node(request: IqRequest) -> None:
    if request.payload.get("node"):
        raise NotFound("no such node")


def _keep_until(wanted: Element) -> float | None:
    """When an ephemeral file has to be gone (XEP-0363 s5.3)."""
    found = child(wanted, ns.UPLOAD_PURPOSE, "ephemeral")
    if found is None:
        return None
    try:
        moment = datetime.fromisoformat(found.get("expire-before", ""))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadRequest("expire-before is a time as in XEP-0082") from error
