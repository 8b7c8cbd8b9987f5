"""From bytes to elements: the one XML parser that everything from outside goes through.

`StreamParser` reads an endless XML stream (RFC 6120 s4, s11), `parse_document` one whole document (a WebSocket frame,
a stanza of the signed federation). Both refuse what RFC 6120 s11.1 forbids: DTDs, comments, processing instructions,
entities other than the five of XML, encodings other than UTF-8, prefixes that are not bound.

How a stream is read. The stream header goes to a strict pyexpat parser, which alone has hooks for the XML declaration
and for a DTD. After the header a DTD is a syntax error, so the stanzas go to ElementTree's C parser, the fastest one
Python has. It is only ever given complete markup: bytes after the last complete tag wait in a buffer. So the parser is
never left within a token, whatever the packets look like, which makes three things true: expat's deferral of
incomplete tokens cannot hold a finished stanza back, a token sent in a thousand pieces is not scanned a thousand
times, and the position between two stanzas is known exactly. At that position white space is dropped (it costs no
memory), the parser may be replaced (names that a peer makes up would stay in its tables for ever) and an idle
connection gives its parser back.

The raw bytes of a stanza accompany the element only where they may be relayed by inserting attributes right behind
``<message``: see `StreamParser.feed`.
"""

import re
from collections.abc import Callable
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from homeserver.protocol import element_builder
from homeserver.protocol import namespaces as ns
from homeserver.protocol.document import parse_document
from homeserver.protocol.stream_header import TAG, read_header
from homeserver.protocol.xml import Element
from homeserver.protocol.xml_input import (
    Item,
    StreamEnd,
    StreamHeader,
    XmlFault,
    XmlLimits,
    condition_of,
    depth_exceeds,
)

__all__ = ["Item", "StreamEnd", "StreamHeader", "StreamParser", "XmlFault", "XmlLimits", "parse_document"]

STREAM_TAG: Final = "{" + ns.STREAM + "}stream"
_MESSAGE: Final = "{" + ns.CLIENT + "}message"
_SPACE: Final = b" \t\r\n"
_MESSAGE_END: Final = b"</message>"
_GT: Final = 0x3E
_STANZA_END: Final = re.compile(rb"</[^<>]*>|/>")
_OTHER_MARKUP: Final = re.compile(rb"<[!?]")
_PLAIN_START: Final = re.compile(rb"""<message(?:[ \t\r\n]+(?!xmlns)[a-z:]+=(?:'[^'<>]*'|"[^"<>]*"))*[ \t\r\n]*>""")
_COMMON_HEADER: Final = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>".encode()
_ODD_TAG_BYTES: Final = 4096
_ODD_TAG_FEEDS: Final = 256


class StreamParser:
    """Reads one XML stream. Not reusable after an `XmlFault` or a `StreamEnd`; for a restarted stream make another."""

    # fmt: off
    __slots__ = (
        "_buffer", "_ended", "_events", "_fed", "_feed", "_header", "_odd", "_root", "_slack", "_spliceable", "_total",
        "limits",
    )
    # fmt: on

    def __init__(self, limits: XmlLimits) -> None:
        self.limits = limits
        self._header: bytes | None = None
        self._spliceable = False
        self._buffer: bytearray | None = None  # the bytes since the last boundary; None at a boundary
        self._fed = 0  # how many of them the parser has seen
        self._slack = 0  # at most so many of them belong to earlier stanzas
        self._total = 0  # bytes seen by the present parser
        self._odd = 0
        self._ended = False
        self._feed: Callable[[bytes], None] | None = None
        self._events: list[Any] = []
        self._root: Element | None = None

    def feed(self, data: bytes) -> list[Item]:
        """Parse ``data`` and return what it completed, in order. What follows the end of the stream is ignored.

        An element comes with raw bytes only if it is a message without ``from`` and ``xmlns`` attributes that uses
        no prefix bound outside it and no CDATA: ``<message`` + more attributes + ``raw[8:]`` is then well-formed
        anywhere in a ``jabber:client`` context.

        Raises `XmlFault`; the parser is of no use afterwards.
        """
        items: list[Item] = []
        try:
            if self._header is None and data:
                data = self._read_header(data, items)
            if self._ended:
                return items
            start, end = 0, len(data)
            while start < end and not self._ended:
                cut = data.find(_MESSAGE_END, start) + 10
                if cut < 10:
                    self._take(data[start:] if start else data, False, items)
                    break
                piece = data[start:cut]
                if self._buffer is None and self._feed is not None and cut - start <= self.limits.max_bytes:
                    self._take_message(piece, items)
                else:
                    self._take(piece, True, items)
                start = cut
        except XmlFault as fault:
            fault.items = items
            if not self._ended:
                raise
        except (ParseError, UnicodeError, ValueError) as error:
            refused = self._fault(error, items)
            if not self._ended:
                raise refused from error
        return items

    def _fault(self, error: Exception, items: list[Item]) -> XmlFault:
        """What to answer for an error of the parser; stanzas that were complete before it still count."""
        try:
            if self._root is not None:
                self._finish(b"", items)
        except XmlFault as earlier:
            earlier.items = items
            return earlier
        return XmlFault(condition_of(error.code) if isinstance(error, ParseError) else "not-well-formed", "", items)

    @property
    def is_between_stanzas(self) -> bool:
        """Whether nothing is half read."""
        return self._buffer is None

    @property
    def is_awake(self) -> bool:
        """Whether there is a parser to be given back."""
        return self._feed is not None

    def idle(self) -> None:
        """Give the parser's memory back if nothing is half read; it is made again when data comes."""
        if self._buffer is None and self._header is not None:
            self._drop()

    def _drop(self) -> None:
        self._feed = None
        self._root = None
        self._events = []
        self._total = 0

    # -- the header

    def _read_header(self, data: bytes, items: list[Item]) -> bytes:
        """Collect the stream header; returns what follows it, or nothing while it is incomplete."""
        buffer = self._buffer if self._buffer is not None else bytearray()
        buffer += data
        if buffer[0] in (0, 0xFE, 0xFF):
            raise XmlFault("unsupported-encoding")
        if buffer[0] not in (0x3C, 0xEF):
            buffer = buffer.lstrip(_SPACE)
            if buffer and buffer[0] != 0x3C:
                raise XmlFault("not-well-formed")
        if b"\0" in buffer[:4]:
            raise XmlFault("unsupported-encoding")
        complete = read_header(bytes(buffer[: self.limits.header_bytes])) if b">" in data else None
        if complete is None:
            if len(buffer) > self.limits.header_bytes:
                raise XmlFault("policy-violation", "stream header is too long")
            self._buffer = buffer
            return b""
        header, first, last = complete
        self._buffer = None
        common = header.namespaces == {"": ns.CLIENT, "stream": ns.STREAM} and header.tag == STREAM_TAG
        self._spliceable = common
        self._header = _COMMON_HEADER if common else bytes(buffer[first:last])
        if self._header.endswith(b"/>"):
            raise XmlFault("bad-format", "stream header is an empty element", [header])
        items.append(header)
        return bytes(buffer[last:])

    # -- the stanzas

    def _start(self) -> Callable[[bytes], None]:
        """Make a parser and show it the header, so that prefixes and the closing tag have their meaning."""
        assert self._header is not None
        self._events = []
        feed, self._root = element_builder.builder(self._header, self._events)
        self._feed = feed
        self._total = 0
        self._odd = 0
        return feed

    def _take_message(self, piece: bytes, items: list[Item]) -> None:
        """The common case, at a boundary: ``piece`` ends a message and most likely is one."""
        feed, root, events = self._feed, self._root, self._events
        if feed is None or root is None or piece[0] != 0x3C or piece[1] in b"!?":
            self._take(piece, True, items)
            return
        feed(piece)
        size = len(piece)
        self._total += size
        known = len(items)
        limits = self.limits
        if (
            len(root) == 1
            and events
            and events[-1][1] is root[0]
            and size <= 5 * limits.max_attributes  # too short for more: an attribute takes six bytes
            and len(events) <= limits.max_depth
        ):
            is_plain = _OTHER_MARKUP.search(piece) is None
            if not is_plain and any(kind != "end" for kind, _ in events):
                raise XmlFault("restricted-xml", "comments and processing instructions are not allowed")
            node = root[0]
            events.clear()
            del root[0]
            items.append((node, piece if is_plain and self._spliceable and _may_splice(node, piece) else None))
            if self._total > limits.renew_after_bytes:
                self._drop()
        elif self._finish(piece, items):
            self._renew()
        else:
            self._keep(piece, len(items) > known)

    def _take(self, piece: bytes, ends_message: bool, items: list[Item]) -> None:
        """Feed ``piece``, which is cut behind its first ``</message>`` if it has one (``ends_message``)."""
        buffer = self._buffer
        if buffer is None:
            if piece[0] != 0x3C:
                piece = piece.lstrip(_SPACE)
                if not piece:
                    return
                if piece[0] != 0x3C:
                    raise XmlFault("bad-format", "text between stanzas")
            size = len(piece)
            if size > self.limits.max_bytes:
                self._take_in_parts(piece, items)
                return
            if ends_message:
                _refuse_markup(piece)
                known = len(items)
                if self._advance(piece, piece, items):
                    self._renew()
                else:
                    self._keep(piece, len(items) > known)
                return
            buffer = self._buffer = bytearray()
            self._fed = 0
        elif len(buffer) + len(piece) > self.limits.max_bytes + self._slack:
            self._take_in_parts(piece, items)
            return
        buffer += piece
        self._drain(buffer, items)

    def _keep(self, piece: bytes, is_mixed: bool) -> None:
        """``piece`` was fed and left a stanza open; ``is_mixed`` if it ended others before."""
        self._buffer = bytearray(piece)
        self._fed = len(piece)
        self._slack = len(piece) if is_mixed else 0

    def _drain(self, buffer: bytearray, items: list[Item]) -> None:
        """Feed the buffer up to the end of its last complete tag."""
        end = buffer.rfind(b">", self._fed) + 1
        last, tag = -1, None
        while end and tag is None:
            last = buffer.rfind(b"<", 0, end)
            tag = TAG.match(buffer, last, end)
            if tag is None:  # ``>`` within an attribute: what stands before that tag may be complete
                self._count_odd(end - last)
                end = buffer.rfind(b">", self._fed, max(last, self._fed)) + 1
        if tag is None:
            return
        if not self._fed:
            _refuse_markup(buffer)
        complete = bytes(buffer[self._fed : end])
        self._fed = end
        known = len(items)
        whole = bytes(buffer[:end]) if not self._slack and buffer.endswith(_MESSAGE_END) else b""
        if not self._advance(whole, complete, items):
            self._count_odd(end - last)
            if len(items) > known:
                self._slack = len(buffer)
            return
        if buffer[last + 1] in b"!?":
            raise XmlFault("bad-format", "text between stanzas")
        rest = bytes(buffer[tag.end() :])
        self._renew()
        if rest:
            self._take(rest, False, items)

    def _take_in_parts(self, piece: bytes, items: list[Item]) -> None:
        """The bytes since the last boundary exceed the limit: look for boundaries within, refuse where there is none."""
        start = 0
        ends = [match.end() for match in _STANZA_END.finditer(piece)]
        for end in [*ends, len(piece)]:
            part = piece[start:end]
            start = end
            if self._buffer is None:
                part = part.lstrip(_SPACE)
                if len(part) > self.limits.max_bytes:
                    raise XmlFault("policy-violation", "stanza is too long")
            elif len(self._buffer) + len(part) > self.limits.max_bytes + self._slack:
                raise XmlFault("policy-violation", "stanza is too long")
            if part:
                self._take(part, False, items)

    def _advance(self, whole: bytes, piece: bytes, items: list[Item]) -> bool:
        """Show ``piece`` to the parser; returns whether it ended between two stanzas.

        ``whole`` is everything since the last boundary where that may be one message, else empty.
        """
        (self._feed or self._start())(piece)
        self._total += len(piece)
        return self._finish(whole, items)

    def _finish(self, whole: bytes, items: list[Item]) -> bool:
        """Collect what the parser reported; returns whether the position is between two stanzas."""
        root, events = self._root, self._events
        assert root is not None
        done, closed = 0, False
        for kind, node in events:
            if kind != "end":
                raise XmlFault("restricted-xml", f"{kind} is not allowed")
            if node is root:
                closed = True
            elif node is root[done]:
                if done:
                    _refuse_text(root[done - 1])
                self._check(node, whole)
                done += 1
                items.append((node, None))
        events.clear()
        if closed:
            if len(root):
                _refuse_text(root[-1])
            items.append(StreamEnd())
            self._ended = True
        if len(root) > done:
            if done:
                _refuse_text(root[done - 1])
            if root[done].tag == STREAM_TAG:
                raise XmlFault("bad-format", "stream header within the stream")
        if not done and not closed:
            return False
        is_one = done == 1 and len(root) == 1 and not closed
        if is_one and whole and self._spliceable and not _OTHER_MARKUP.search(whole) and _may_splice(root[0], whole):
            items[-1] = (root[0], whole)
        del root[:done]
        return len(root) == 0

    def _check(self, node: Element, source: bytes) -> None:
        """Depth and attributes. Counting characters is a bound from above; only beyond it the tree is walked."""
        limits = self.limits
        text = source or self._buffer or b""
        if text.count(b"<") > limits.max_depth and depth_exceeds(node, limits.max_depth):
            raise XmlFault("policy-violation", "elements are nested too deeply")
        if text.count(b"=") > limits.max_attributes and any(
            len(below.attrib) > limits.max_attributes for below in node.iter()
        ):
            raise XmlFault("policy-violation", "too many attributes")

    def _renew(self) -> None:
        """At a boundary: forget the bytes, and now and then the parser with the names it has learned."""
        self._buffer = None
        self._fed = 0
        self._slack = 0
        if self._total > self.limits.renew_after_bytes:
            self._drop()

    def _count_odd(self, span: int) -> None:
        """Bound the work for one very long tag that is full of ``>`` and comes in very small pieces."""
        if span > _ODD_TAG_BYTES:
            self._odd += 1
            if self._odd > _ODD_TAG_FEEDS:
                raise XmlFault("policy-violation", "tag is too long")


def _refuse_markup(start: bytes | bytearray) -> None:
    """Nothing but a tag may stand between stanzas: no comment, instruction, DTD or CDATA section."""
    if start[1] in b"!?":
        raise XmlFault("restricted-xml", "only elements may stand between stanzas")


def _refuse_text(before: Element) -> None:
    text = before.tail
    before.tail = None
    if text and text.strip(" \t\r\n"):
        raise XmlFault("bad-format", "text between stanzas")


def _may_splice(node: Element, raw: bytes) -> bool:
    """Whether ``raw``, from which exactly ``node`` was read, keeps its meaning in another jabber:client stream.

    It ends with ``</message>``: a tag, as no other markup than tags is in it; so it begins with ``<message``.
    A default namespace may be declared on the start tag only in a spelling that the search would see, or one with a
    character reference: then the start tag is looked at as a whole.
    """
    return (
        node.tag == _MESSAGE
        and node.get("from") is None
        and b"jabber:client" not in raw
        and b"stream:" not in raw
        and (b"&" not in raw or _PLAIN_START.match(raw) is not None)
    )
