import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from config.settings import LogSettings
from homeserver.telemetry import set_up_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
    root.setLevel(level)


def lines_of(settings: LogSettings, *events: tuple[str, dict[str, object]]) -> list[str]:
    stream = io.StringIO()
    set_up_logging(settings, stream)
    log = structlog.get_logger("homeserver.test")
    for event, values in events:
        log.info(event, **values)
    return stream.getvalue().splitlines()


def test_a_json_line_has_time_level_module_and_values() -> None:
    (line,) = lines_of(LogSettings(format="json"), ("login accepted", {"account": "a@b", "port": 5222, "old": None}))
    record = json.loads(line)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "login accepted",
        "level": "info",
        "logger": "homeserver.test",
        "account": "a@b",
        "port": 5222,
        "old": None,
    }


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_never_reach_a_line(form: str) -> None:
    names = [
        "password",
        "new_password",
        "access_token",
        "secret",
        "Authorization",
        "cookie",
        "signing_key",
        "salt",
        "proof",
    ]
    (line,) = lines_of(LogSettings(format=form), ("x", dict.fromkeys(names, "hunter2")))  # type: ignore[arg-type]
    assert "hunter2" not in line


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_peer_cannot_forge_a_line(form: str) -> None:
    evil = "a\r\n2026-01-01 error   forged\x1b[2J\u2028\u202e\x00"
    lines = lines_of(LogSettings(format=form), ("x", {"jid": evil}), (evil, {}))  # type: ignore[arg-type]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_long_values_are_cut() -> None:
    (line,) = lines_of(LogSettings(format="json"), ("x", {"jid": "y" * 100_000, "raw": b"z" * 100_000}))
    record = json.loads(line)
    assert len(record["jid"]) == len(record["raw"]) == 256


def test_a_text_line_is_readable() -> None:
    (line,) = lines_of(LogSettings(), ("login refused", {"account": "a@b", "why": "wrong password", "n": 3}))
    assert line.split("Z ", 1)[1] == "info    login refused account=a@b why='wrong password' n=3 (homeserver.test)"


def test_the_level_decides_and_can_change() -> None:
    stream = io.StringIO()
    log = structlog.get_logger("m")
    set_up_logging(LogSettings(level="warning"), stream)
    log.info("one")
    set_up_logging(LogSettings(level="debug"), stream)
    log.debug("two")
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["two"]


def test_lines_of_libraries_look_the_same() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), stream)
    try:
        raise ValueError("bad\x1b")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Unhandled %s", "exception")
    logging.getLogger("aiohttp.access").error("GET /?token=hunter2")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["event"] == "Unhandled exception"
    assert record["logger"] == "aiohttp.server"
    assert record["exception"].endswith("ValueError: bad\\x1b")
