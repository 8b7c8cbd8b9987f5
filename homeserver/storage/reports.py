"""SQL for reports of spam and abuse, and copies of the messages they are about."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from homeserver.storage.schema import report, report_message


@dataclass(frozen=True, slots=True)
class Report:
    """One report. ``at`` and ``resolved`` are seconds since the epoch; ``resolved`` is None while it is open.

    ``origin`` and ``third_party`` say to whom it may be passed on (XEP-0377 s5).
    """

    id: int
    at: float
    reporter: str
    jid: str
    reason: str
    words: str
    origin: bool = False
    third_party: bool = False
    resolved: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A reported message: its id in the reporter's archive, its time in microseconds, the stanza."""

    id: int
    at: int
    payload: bytes


def add(connection: Connection, made: Report, evidence: Sequence[Evidence]) -> int:
    """Keep a report; its own ``id`` does not count. Returns its number."""
    values = {
        "at": made.at,
        "reporter": made.reporter,
        "jid": made.jid,
        "reason": made.reason,
        "words": made.words,
        "origin": made.origin,
        "third_party": made.third_party,
        "note": "",
    }
    key = connection.execute(insert(report).values(values)).inserted_primary_key
    if key is None:
        raise RuntimeError("a report got no number")
    number = int(key[0])
    rows = [{"report": number, "id": one.id, "at": one.at, "payload": one.payload} for one in evidence]
    if rows:
        connection.execute(insert(report_message), rows)
    return number


def listing(connection: Connection, with_resolved: bool, limit: int) -> list[tuple[Report, int]]:
    """The newest ``limit`` reports, oldest first, each with the number of its messages."""
    count = select(func.count()).where(report_message.c.report == report.c.id).scalar_subquery()
    query = select(report, count.label("messages"))
    if not with_resolved:
        query = query.where(report.c.resolved.is_(None))
    rows = connection.execute(query.order_by(report.c.id.desc()).limit(limit)).all()
    return [(_report(row), row.messages) for row in reversed(rows)]


def find(connection: Connection, number: int) -> tuple[Report, list[Evidence]] | None:
    """One report with its messages, oldest first."""
    row = connection.execute(select(report).where(report.c.id == number)).one_or_none()
    if row is None:
        return None
    query = select(report_message).where(report_message.c.report == number).order_by(report_message.c.id)
    return _report(row), [Evidence(one.id, one.at, bytes(one.payload)) for one in connection.execute(query)]


def resolve(connection: Connection, number: int, now: float, note: str) -> bool:
    """Close a report with a note; false where there is no such open report."""
    open_one = (report.c.id == number) & report.c.resolved.is_(None)
    return connection.execute(update(report).where(open_one).values(resolved=now, note=note)).rowcount == 1


def purge_before(connection: Connection, before: float) -> int:
    """Remove reports older than a time, with their messages; returns how many."""
    old = select(report.c.id).where(report.c.at < before)
    connection.execute(delete(report_message).where(report_message.c.report.in_(old)))
    return connection.execute(delete(report).where(report.c.at < before)).rowcount


def _report(row: Row[tuple[object, ...]]) -> Report:
    return Report(
        row.id,
        row.at,
        row.reporter,
        row.jid,
        row.reason,
        row.words,
        bool(row.origin),
        bool(row.third_party),
        row.resolved,
        row.note,
    )
