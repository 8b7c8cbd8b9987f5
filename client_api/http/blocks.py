"""The block list, and reports of spam and abuse."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from client_api.http.endpoint import address_of, endpoint
from client_api.http.messages import Id, Recipient
from homeserver.domain.errors import JidMalformed, NotAcceptable, ResourceConstraint
from homeserver.protocol import namespaces as ns
from homeserver.services.blocking import Blocking
from homeserver.services.reports import MAX_WORDS, Complaint, Reports
from homeserver.services.tokens import Caller

REASONS: Final = {"spam": ns.REPORT_SPAM, "abuse": ns.REPORT_ABUSE}


class NewBlock(Struct, forbid_unknown_fields=True):
    """An account, a server, or one session of an account."""

    address: Recipient


class BlockList(Struct):
    """The addresses that are blocked, in order."""

    blocks: list[str]


class NewReport(Struct, forbid_unknown_fields=True):
    """Somebody who sends spam or is abusive. ``message_ids`` are messages of the conversation with that address."""

    address: Recipient
    reason: Literal["spam", "abuse"]
    text: Annotated[str, Meta(max_length=MAX_WORDS)] = ""
    message_ids: Annotated[list[Id], Meta(max_length=100)] = []
    share_with_origin: bool = False
    share_with_others: bool = False


class ReportTaken(Struct):
    """The number under which the operator finds it."""

    report_id: Id


class Blocks:
    """Who is blocked reaches the account no more, and does not see it."""

    def __init__(self, blocking: Blocking, reports: Reports) -> None:
        self._blocking = blocking
        self._reports = reports

    @endpoint("GET", "/v1/blocks", returns=BlockList)
    async def show(self, caller: Caller) -> BlockList:
        """The block list."""
        return BlockList(list(await self._blocking.list(caller.account)))

    @endpoint("POST", "/v1/blocks", body=NewBlock, status=204, errors=(JidMalformed, NotAcceptable, ResourceConstraint))
    async def block(self, caller: Caller, body: NewBlock) -> None:
        """Block an address: user@domain, domain, or user@domain/resource."""
        await self._blocking.block(caller.account, [address_of(body.address)])

    @endpoint("DELETE", "/v1/blocks/{address}", status=204, errors=(JidMalformed,))
    async def unblock(self, caller: Caller, address: str) -> None:
        """Unblock an address; one that is not blocked stays so."""
        await self._blocking.unblock(caller.account, [address_of(address)])

    @endpoint("DELETE", "/v1/blocks", status=204)
    async def unblock_all(self, caller: Caller) -> None:
        """Unblock everybody."""
        await self._blocking.unblock(caller.account, None)

    @endpoint("POST", "/v1/reports", body=NewReport, returns=ReportTaken, status=201, errors=(JidMalformed,))
    async def report(self, caller: Caller, body: NewReport) -> ReportTaken:
        """Report somebody to the operator of this server, with copies of messages; it does not block."""
        complaint = Complaint(
            address_of(body.address),
            REASONS[body.reason],
            body.text,
            tuple(body.message_ids),
            body.share_with_origin,
            body.share_with_others,
        )
        return ReportTaken(await self._reports.report(caller.account, complaint))
