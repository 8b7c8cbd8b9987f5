"""Reports of spam and abuse (XEP-0377): kept for the operator with copies of the messages they are about.

Reports stay on this server; where their reporter allows more (XEP-0377 s5) the operator sees it and decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from homeserver.domain.errors import NotFound
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import MESSAGE, Stanza
from homeserver.protocol.xml import Element, element
from homeserver.storage import reports as storage

if TYPE_CHECKING:
    from config.feature_settings import PrivacySettings
    from homeserver.domain.accounts import Account
    from homeserver.services.admission import Admission
    from homeserver.services.clock import Clock
    from homeserver.services.mailboxes import Mailboxes
    from homeserver.services.router import Router
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

MAX_REASON: Final = 255
MAX_WORDS: Final = 4096
MAX_LISTED: Final = 500


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a client says of somebody. ``messages`` are ids of its own archive; ``origin`` and ``third_party`` say to whom
    the report may be passed on."""

    jid: JID
    reason: str
    words: str = ""
    messages: tuple[int, ...] = ()
    origin: bool = False
    third_party: bool = False


class Reports:
    """Takes reports of accounts and gives them to the operator."""

    def __init__(
        self,
        database: Database,
        mailboxes: Mailboxes,
        router: Router,
        admission: Admission,
        clock: Clock,
        settings: PrivacySettings,
    ) -> None:
        self._database = database
        self._mailboxes = mailboxes
        self._router = router
        self._admission = admission
        self._clock = clock
        self._settings = settings

    async def report(self, account: Account, complaint: Complaint) -> int:
        """Keep a report; returns its number. Messages that are not from or to whom it is about are left out.

        Raises `RateLimited`.
        """
        self._admission.report(account)
        evidence = []
        for id_ in dict.fromkeys(complaint.messages[: self._settings.report_messages]):
            entry = await self._mailboxes.find(account, id_)
            if entry is not None and JID.parse(entry.peer).bare == complaint.jid.bare:
                evidence.append(storage.Evidence(entry.id, entry.at, entry.payload))
        made = storage.Report(
            0,
            self._clock.now(),
            account.jid.bare,
            str(complaint.jid),
            complaint.reason[:MAX_REASON],
            complaint.words[:MAX_WORDS],
            complaint.origin,
            complaint.third_party,
        )
        number = await self._database.write(storage.add, made, evidence)
        log.info("abuse reported", number=number, reporter=account.jid.bare, reported=made.jid, reason=made.reason)
        self._notify(account, number, made)
        return number

    async def purge(self) -> None:
        """Delete reports that are too old; to be called now and then."""
        if self._settings.report_retention:
            await self._database.write(storage.purge_before, self._clock.now() - self._settings.report_retention)

    def _notify(self, account: Account, number: int, made: storage.Report) -> None:
        text = (
            f"Report {number}: {made.reporter} reports {made.jid} for {made.reason}. See: parley reports show {number}"
        )
        for address in self._settings.report_to:
            to = JID.parse(address)
            message = Element(MESSAGE, {"type": "normal", "id": f"report-{number}"})
            message.append(element(ns.CLIENT, "body", None, text))
            self._router.route(Stanza(message, JID("", account.jid.domain), to))


class ReportVerbs:
    """What the command line asks about reports; answers are values that JSON can carry."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list(self, arguments: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        """The newest reports: open ones, or with ``all`` every one."""
        found = await self._database.read(storage.listing, bool(arguments["all"]), MAX_LISTED)
        return [{**asdict(report), "messages": count} for report, count in found]

    async def show(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One report with its messages. Raises `NotFound`."""
        found = await self._database.read(storage.find, int(arguments["number"]))
        if found is None:
            raise NotFound("there is no such report")
        report, evidence = found
        messages = [{"id": one.id, "at": one.at, "stanza": one.payload.decode()} for one in evidence]
        return {**asdict(report), "messages": messages}

    async def resolve(self, arguments: Mapping[str, Any]) -> None:
        """Close a report. Raises `NotFound` where it is not open."""
        number, note = int(arguments["number"]), str(arguments["note"])[:MAX_WORDS]
        if not await self._database.write(storage.resolve, number, self._clock.now(), note):
            raise NotFound("there is no such open report")
