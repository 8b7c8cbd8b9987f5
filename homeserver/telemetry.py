"""What the server tells its operator: log lines on standard error, and numbers under `/metrics`.

Log lines are one JSON object or one text line each. A key that may hold a secret is left out, control characters are
escaped, long values are cut: what a peer sends cannot forge a line. Label values of metrics come from fixed sets, so nobody
outside can make their number grow.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from structlog.typing import EventDict, WrappedLogger

from config.settings import LogSettings

_SECRET: Final = re.compile(
    r"passw|secret|token|authori[sz]ation|cookie|credential|verifier|private|proof|(?:^|_)(?:key|keys|salt)$",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"[^\s\"'=]+")
_VALUE_CHARACTERS: Final = 256
_TRACE_CHARACTERS: Final = 16_384
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

FEDERATION_EVENTS: Final = frozenset(
    (
        "federation_epoch_changed",
        "federation_forged_from",
        "federation_passing_dropped",
        "federation_stanza_failed",
        "federation_stanza_rejected",
    )
)


class Metrics:
    """All numbers of the server, in one list, with a registry of their own.

    An attribute that is a mapping has one metric per label value: `metrics.logins["accepted"].inc()`; another value is a
    `KeyError`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        outcomes = ("accepted", "refused")
        faces = ("xmpp", "websocket", "http")
        self.connections: Mapping[str, Gauge] = self._gauges("connections", "Open connections.", "face", faces)
        self.sessions = self._gauge("sessions", "Sessions that are logged in.")
        self.logins: Mapping[str, Counter] = self._counters("logins", "Logins by outcome.", "outcome", outcomes)
        self.stanzas = self._counters("stanzas", "Stanzas from clients.", "kind", ("message", "presence", "iq"))
        self.messages_stored = self._counter("messages_stored", "Messages that were committed.")
        self.commit_seconds = self._histogram("commit_seconds", "Time of one commit of messages.", _SECONDS)
        self.commit_rows = self._histogram("commit_rows", "Rows in one commit of messages.", _ROWS)
        self.http_requests = self._counters(
            "http_requests", "Answers of the HTTP faces by class of status.", "status", ("2xx", "3xx", "4xx", "5xx")
        )
        self.http_seconds = self._histogram("http_seconds", "Time of one HTTP request.", _SECONDS)
        self.outbox_waiting = self._gauge("outbox_waiting", "Stanzas that wait for other servers.")
        self.federation_sent = self._counters(
            "federation_sent", "Requests to other servers by outcome.", "outcome", ("accepted", "refused", "failed")
        )
        self.federation_received = self._counters(
            "federation_received", "Requests from other servers by outcome.", "outcome", outcomes
        )
        self.federation_events = Counter(
            "parley_federation_events", "Unusual events between servers.", ("event",), registry=self.registry
        )
        self.limited = self._counters(
            "limited",
            "Actions refused or put off by a rate limit.",
            "limit",
            ("login", "registration", "request", "stanza", "peer"),
        )
        self.certificate_expiry = self._gauge(
            "certificate_expiry_seconds", "When the first certificate expires, in seconds since 1970."
        )

    def federation_event(self, name: str) -> None:
        """Count something unusual between servers: a forged sender, numbers that disagree, a new key."""
        self.federation_events.labels(name if name in FEDERATION_EVENTS else "other").inc()

    def exposition(self) -> tuple[bytes, str]:
        """Body and content type of `/metrics` (OpenMetrics 1.0)."""
        return bytes(generate_latest(self.registry)), CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]

    def _counter(self, name: str, sentence: str) -> Counter:
        return Counter(f"parley_{name}", sentence, registry=self.registry)

    def _gauge(self, name: str, sentence: str) -> Gauge:
        return Gauge(f"parley_{name}", sentence, registry=self.registry)

    def _histogram(self, name: str, sentence: str, buckets: Iterable[float]) -> Histogram:
        return Histogram(f"parley_{name}", sentence, buckets=tuple(buckets), registry=self.registry)

    def _counters(self, name: str, sentence: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        family = Counter(f"parley_{name}", sentence, (label,), registry=self.registry)
        return {value: family.labels(value) for value in values}

    def _gauges(self, name: str, sentence: str, label: str, values: Iterable[str]) -> dict[str, Gauge]:
        family = Gauge(f"parley_{name}", sentence, (label,), registry=self.registry)
        return {value: family.labels(value) for value in values}


def set_up_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Makes all log lines of the process, those of libraries included, look as `settings` wants. May be called again."""
    target = sys.stderr if stream is None else stream
    renderer = _render_json if settings.format == "json" else _render_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_name,
            structlog.processors.format_exc_info,
            clean,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=_OutputFactory(target),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(logging.DEBUG if settings.level == "debug" else logging.WARNING)
    # aiohttp's access lines hold what our own request lines hold, and queries besides.
    logging.getLogger("aiohttp.access").disabled = True


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The log processor that removes secrets, escapes control characters and cuts long values."""
    cleaned: EventDict = {}
    for key, value in event.items():
        if key != "event" and _SECRET.search(key):
            continue
        if key == "exception":
            cleaned[key] = "\n".join(
                _printable(line, _VALUE_CHARACTERS) for line in str(value)[-_TRACE_CHARACTERS:].splitlines()
            )
        elif value is None or isinstance(value, bool | int | float):
            cleaned[key] = value
        else:
            cleaned[key] = _printable(value if isinstance(value, str) else str(value), _VALUE_CHARACTERS)
    return cleaned


def _printable(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _add_name(logger: Any, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event).decode()


def _render_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    line = io.StringIO()
    line.write(f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}")
    trace = event.pop("exception", None)
    name = event.pop("logger")
    for key, value in event.items():
        text = str(value)
        line.write(f" {key}={text if _BARE.fullmatch(text) else repr(text)}")
    line.write(f" ({name})")
    if trace:
        line.write(f"\n{trace}")
    return line.getvalue()


class _Output:
    """Writes finished lines; knows the name of the module that speaks."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self.name = name

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = error = critical = msg = _write


class _OutputFactory:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *names: Any) -> _Output:
        return _Output(self._stream, str(names[0]) if names else "parley")


class _FromLibraries(logging.Handler):
    """Hands records of the standard library's logging to the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(min(record.levelno, logging.CRITICAL), record.getMessage(), exc_info=record.exc_info or None)
