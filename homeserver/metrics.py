"""The numbers under `/metrics`: what there is, in one list, and how it is read.

Nothing is counted here. Whoever does the work keeps plain numbers (`homeserver/counts.py`), the composition root says
where they are, and they are read when they are asked for. Label values come from fixed sets.

`python -m homeserver.metrics` writes `docs/metrics.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from homeserver.counts import OTHER, Spread

PAGE: Final = Path("docs/metrics.md")
Source = Callable[[], "float | Mapping[str, int] | Spread"]
"""Gives the present value: a number, numbers by label value, or a spread."""

FEDERATION_EVENTS: Final = (
    "federation_epoch_changed",
    "federation_forged_from",
    "federation_passing_dropped",
    "federation_stanza_failed",
    "federation_stanza_rejected",
    OTHER,
)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `parley_` and its name, with one label or none. Counters get `_total` behind their name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    sentence: str
    label: str = ""
    values: tuple[str, ...] = ()


FAMILIES: Final = (
    Family(
        "connections", "gauge", "Open connections of clients and peers.", "face", ("xmpp", "websocket", "bosh", "http")
    ),
    Family("sessions", "gauge", "Sessions that are bound, those that wait to be resumed included."),
    Family("logins", "counter", "Logins by outcome, over XMPP and JSON.", "outcome", ("accepted", "refused")),
    Family("stanzas", "counter", "Stanzas from XMPP clients.", "kind", ("message", "presence", "iq")),
    Family("messages_stored", "counter", "Messages that were committed."),
    Family("commit_seconds", "histogram", "Time of one commit."),
    Family("commit_rows", "histogram", "Messages in one commit; 0 for one of other work."),
    Family("commits_failed", "counter", "Commits that failed; their messages were refused."),
    Family("http_requests", "counter", "Answers over HTTP by class of status.", "status", ("2xx", "3xx", "4xx", "5xx")),
    Family("http_seconds", "histogram", "Time of one HTTP request; a WebSocket counts when it closes."),
    Family(
        "outbox_waiting",
        "gauge",
        "Stanzas that wait for other servers: under way, until the next try, or for a server that is away for a minute.",
        "state",
        ("ready", "waiting", "unreachable"),
    ),
    Family(
        "federation_sent",
        "counter",
        "Requests to other servers: taken, refused by their policy, or to be tried again.",
        "outcome",
        ("accepted", "refused", "failed"),
    ),
    Family(
        "federation_received",
        "counter",
        "Signed requests from other servers by outcome.",
        "outcome",
        ("accepted", "refused"),
    ),
    Family(
        "push",
        "counter",
        "Notifications to app servers: taken, refused for good, not taken this time; dropped because too many waited.",
        "outcome",
        ("taken", "refused", "failed", "dropped"),
    ),
    Family("federation_events", "counter", "Unusual events between servers.", "event", FEDERATION_EVENTS),
    Family(
        "limited",
        "counter",
        "Actions refused or put off by a rate limit.",
        "limit",
        ("login", "registration", "request", "search", "stanza", "bytes", "peer", "presence", "subscription", "report"),
    ),
    Family("certificate_expiry_seconds", "gauge", "When the first certificate expires, in seconds since 1970."),
    Family("store_bytes", "gauge", "Size of the store: the SQLite file, or the PostgreSQL database."),
)
"""Every metric of the server; memory, CPU time and open files of the process come beside them (`process_*`)."""

_BY_NAME: Final = {family.name: family for family in FAMILIES}


class Metrics(Collector):
    """The metrics of one server, in a registry of their own. `read_from` says where a metric's numbers are."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sources: dict[str, Source] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def read_from(self, name: str, source: Source) -> None:
        """Read the metric ``name`` from ``source``. Raises KeyError for one that is not in the list."""
        self._sources[_BY_NAME[name].name] = source

    def unread(self) -> list[str]:
        """Names that have no source; they are left out."""
        return [family.name for family in FAMILIES if family.name not in self._sources]

    def describe(self) -> list[Metric]:
        """Nothing: registration must not read what is not there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present values."""
        for family in FAMILIES:
            source = self._sources.get(family.name)
            if source is not None:
                yield _metric(family, source())

    def exposition(self) -> tuple[bytes, str]:
        """Body and content type of `/metrics` (OpenMetrics 1.0)."""
        return bytes(generate_latest(self.registry)), CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]


def _metric(family: Family, found: float | Mapping[str, int] | Spread) -> Metric:
    name = f"parley_{family.name}"
    if isinstance(found, Spread):
        return HistogramMetricFamily(name, family.sentence, buckets=found.cumulative(), sum_value=found.total)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    if not isinstance(found, Mapping):
        return kind(name, family.sentence, value=found)
    made = kind(name, family.sentence, labels=(family.label,))
    for value in family.values:
        made.add_metric((value,), found[value])
    return made


_INTRODUCTION: Final = """\
# Metrics

Written from the list in `homeserver/metrics.py` by `python -m homeserver.metrics`.

`GET /metrics` on an `https` port gives these numbers as OpenMetrics text to the networks of `metrics.allow`; to others the
path does not exist. Label values come from fixed sets. Memory, CPU time and open files of the process come with the
usual names (`process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds`). A server without
federation leaves out what counts federation.

| metric | kind | label | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The text of the reference page."""
    rows = []
    for family in FAMILIES:
        name = f"parley_{family.name}" + ("_total" if family.kind == "counter" else "")
        label = f"`{family.label}`: {', '.join(family.values)}" if family.label else ""
        rows.append(f"| `{name}` | {family.kind} | {label} | {family.sentence} |\n")
    return _INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
