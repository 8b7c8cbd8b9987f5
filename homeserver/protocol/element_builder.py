"""ElementTree's C parser, told a stream header and left open for the stanzas."""

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import XMLParser, XMLPullParser

from homeserver.protocol.xml import Element


def builder(header: bytes, events: list[Any]) -> tuple[Callable[[bytes], None], Element]:
    """A parser that has read ``header`` and reports ends, comments and instructions to ``events``; and the root."""
    parser: Any = XMLParser(encoding="utf-8")  # noqa: S314
    if hasattr(parser, "_setevents"):
        started: list[Any] = []
        parser._setevents(started, ("start",))
        parser.feed(header)
        parser._setevents(events, ("end", "comment", "pi"))
        return parser.feed, started[0][1]
    return public_builder(header, events)


def public_builder(header: bytes, events: list[Any]) -> tuple[Callable[[bytes], None], Element]:
    """The same over the public interface, for an interpreter without the private one; 1 us slower per stanza."""
    puller: Any = XMLPullParser(events=("start", "end", "comment", "pi"))
    puller.feed(header)
    root: Element = next(iter(puller.read_events()))[1]

    def feed(data: bytes) -> None:
        puller.feed(data)
        events.extend(event for event in puller.read_events() if event[0] != "start")

    return feed, root
