"""Runs stream transcripts against a sans-I/O stream.

A transcript is a text file. ``C:`` lines are what the client sends, ``S:`` lines what the server must send back,
``E:`` lines the event it must report next (class name, then ``field=value`` words), ``A:`` lines commands of the
application. Lines that begin with white space go on the line above; ``#`` begins a comment. ``{open}`` stands for the
stream header of the framing, ``{close}`` for its end. In ``S:`` lines ``*`` stands for anything. On TCP the client's
text goes in as it stands, on WebSocket one message per ``C:`` line.

Commands are method names of `ServerStream` with words as arguments; `Script.commands` adds more.
"""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path

from homeserver.protocol import namespaces as ns
from homeserver.protocol.c2s import ServerStream
from homeserver.protocol.stream_events import Event

_LINE = re.compile(r"([CSEA]): ?(.*)")


def read_transcript(path: Path) -> list[tuple[str, str]]:
    """The lines of a transcript as (speaker, text)."""
    lines: list[tuple[str, str]] = []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match:
            lines.append((match[1], match[2].strip()))
        else:
            speaker, text = lines[-1]
            lines[-1] = (speaker, text + " " + line.strip() if text.endswith(("'", '"')) else text + line.strip())
    return lines


def shown(event: Event) -> str:
    """An event as transcripts write it: class name and the fields that are plain values."""
    names = [field.name for field in fields(event)] if is_dataclass(event) else list(getattr(event, "_fields", ()))
    words = [type(event).__name__]
    for name in names:
        value = getattr(event, name)
        words.append(f"{name}={value.tag.rpartition('}')[2] if hasattr(value, 'tag') else value}")
    return " ".join(words)


class Script:
    """One run of a transcript over one framing."""

    def __init__(self, stream: ServerStream, is_websocket: bool, commands: dict[str, Callable[..., object]]) -> None:
        self.stream = stream
        self.is_websocket = is_websocket
        self.commands = commands
        self.events: list[Event] = []
        self.sent = ""
        self.now = 0.0

    def run(self, lines: list[tuple[str, str]]) -> None:
        """Play all lines; raises AssertionError where the stream does otherwise."""
        for speaker, text in lines:
            getattr(self, "_" + {"C": "client", "S": "server", "E": "event", "A": "application"}[speaker])(text)
        self._collect()
        assert not self.sent, f"not expected: {self.sent}"
        assert not self.events, f"not expected: {[shown(event) for event in self.events]}"

    def _collect(self) -> None:
        self.sent += b"".join(self.stream.messages_to_send()).decode()

    def _client(self, text: str) -> None:
        text = text.replace("{close}", f"<close xmlns='{ns.FRAMING}'/>" if self.is_websocket else "</stream:stream>")
        if self.is_websocket:
            text = re.sub(r"\{open([^}]*)\}", rf"<open xmlns='{ns.FRAMING}'\1/>", text)
            text = re.sub(r"^<(message|presence|iq)\b", rf"<\1 xmlns='{ns.CLIENT}'", text)
        else:
            opening = f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'"
            text = re.sub(r"\{open([^}]*)\}", rf"{opening}\1>", text)
        assert not self.events, f"not expected: {[shown(event) for event in self.events]}"
        self.events = self.stream.receive(text.encode(), self.now)  # a living list: answers append to it

    def _server(self, text: str) -> None:
        self._collect()
        text = text.replace("{close}", f"<close xmlns='{ns.FRAMING}'/>" if self.is_websocket else "</stream:stream>")
        sent = self.sent.replace(f" xmlns='{ns.CLIENT}'", "") if self.is_websocket else self.sent
        sent = sent.replace(f" xmlns:stream='{ns.STREAM}'", "") if self.is_websocket else sent
        if self.is_websocket:
            text = re.sub(r"\{open([^}]*)\}", rf"<open xmlns='{ns.FRAMING}'\1/>", text)
        else:
            opening = f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'"
            text = re.sub(r"\{open([^}]*)\}", rf"{opening}\1>", text)
        pattern = ".*?".join(re.escape(part) for part in text.split("*"))
        match = re.match(pattern, sent)
        assert match, f"expected {text}\n     got {sent}"
        self.sent = sent[match.end() :]

    def _event(self, text: str) -> None:
        assert self.events, f"expected {text}, got nothing; server said {self.sent!r}"
        found = shown(self.events.pop(0))
        name, *wanted = text.split()
        assert found.split()[0] == name, f"expected {text}, got {found}"
        for word in wanted:
            assert f" {word} " in found + " ", f"expected {word} in {found}"

    def _application(self, text: str) -> None:
        name, *words = text.split()
        if name == "clock":
            self.now = float(words[0])
            self.events = self.stream.check_deadline(self.now)
            return
        command = self.commands.get(name) or getattr(self.stream, name)
        command(*words)
