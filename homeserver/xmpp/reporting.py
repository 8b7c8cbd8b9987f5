"""Reports that come with a block (XEP-0377), in the form of ``urn:xmpp:reporting:1`` and in the one before it."""

from collections.abc import Iterable
from typing import Final

import structlog

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, RateLimited
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import Element, child, children
from homeserver.services.reports import Complaint, Reports
from homeserver.xmpp.feature import feature

log = structlog.get_logger(__name__)

_LEGACY: Final = {f"{{{ns.REPORTING_LEGACY}}}spam": ns.REPORT_SPAM, f"{{{ns.REPORTING_LEGACY}}}abuse": ns.REPORT_ABUSE}


@feature(
    xep=377,
    version="0.4.1",
    disco=(ns.REPORTING, ns.REPORTING_LEGACY, ns.REPORT_SPAM_LEGACY, ns.REPORT_ABUSE_LEGACY),
    account_disco=(ns.REPORTING,),
)
class Reporting:
    """Says that reports are taken; they come with the blocking command, which reads them with `read`."""


def read(item: Element, jid: JID) -> Complaint | None:
    """The report in an ``<item/>``, if there is one (XEP-0377 s4, s6). Raises `BadRequest` without a reason."""
    report = child(item, ns.REPORTING, "report")
    if report is not None:
        reason = report.get("reason", "")
    else:
        report = child(item, ns.REPORTING_LEGACY, "report")
        if report is None:
            return None
        reason = next((_LEGACY[part.tag] for part in report if part.tag in _LEGACY), "")
    if not reason:
        raise BadRequest("a report has a reason")
    space = ns.REPORTING if report.tag.startswith(f"{{{ns.REPORTING}}}") else ns.REPORTING_LEGACY
    words = "\n".join((part.text or "").strip() for part in children(report, space, "text"))
    return Complaint(
        jid,
        reason,
        words,
        tuple(_ids(children(report, ns.STANZA_ID, "stanza-id"))),
        child(report, space, "report-origin") is not None,
        child(report, space, "third-party") is not None,
    )


async def keep(reports: Reports, account: Account, complaints: Iterable[Complaint]) -> None:
    """Keep reports after the block: one that is too much does not undo it (XEP-0377 s6)."""
    for complaint in complaints:
        try:
            await reports.report(account, complaint)
        except RateLimited:
            log.warning("report dropped", account=account.jid.bare, reason="too often")
            return


def _ids(found: Iterable[Element]) -> Iterable[int]:
    for part in found:
        text = part.get("id", "")
        if text.isascii() and text.isdigit() and len(text) <= 16:
            yield int(text)
