"""What the server tells its operator: log lines on standard error. Numbers are in `homeserver/metrics.py`.

Log lines are one JSON object or one text line each. A key that may hold a secret is left out, control characters are
escaped, long values are cut: what a peer sends cannot forge a line.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from config.settings import LogSettings

_SECRET: Final = re.compile(
    r"passw|secret|token|authori[sz]ation|cookie|credential|verifier|private|proof|(?:^|_)(?:key|keys|salt)$",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"[^\s\"'=]+")
_VALUE_CHARACTERS: Final = 256
_TRACE_CHARACTERS: Final = 16_384
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


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
