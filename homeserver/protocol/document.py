"""One whole XML document: a WebSocket frame, or a stanza that travels alone."""

import re
from typing import Any, Final
from xml.etree.ElementTree import ParseError, XMLParser, XMLPullParser

from homeserver.protocol.xml import Element
from homeserver.protocol.xml_input import XmlFault, XmlLimits, condition_of, depth_exceeds

_DECLARATION: Final = re.compile(rb"""<\?xml[ \t\r\n]+version=['"]1\.0['"]([^<>]*)\?>[ \t\r\n]*""")
_UTF8_DECLARED: Final = re.compile(
    rb"""(?:[ \t\r\n]+encoding=['"]utf-8['"])?(?:[ \t\r\n]+standalone=['"](?:yes|no)['"])?[ \t\r\n]*\Z""", re.IGNORECASE
)


def parse_document(data: bytes, limits: XmlLimits) -> Element:
    """Parse one whole document: a WebSocket frame (RFC 7395 s3.3.3) or a stanza that travels alone.

    Raises `XmlFault` with the same refusals as a stream; nothing but an XML declaration and white space may precede
    the root.
    """
    if len(data) > limits.max_bytes:
        raise XmlFault("policy-violation", "document is too long")
    if data[:5] == b"<?xml":
        declared = _DECLARATION.match(data)
        if declared is None or not _UTF8_DECLARED.match(declared[1]):
            raise XmlFault("unsupported-encoding")
        data = data[declared.end() :]
    if data[:1] != b"<" or data[1:2] in (b"!", b"?"):
        raise XmlFault("restricted-xml" if data[:1] == b"<" else "not-well-formed")
    events: list[Any] = []
    parser: Any = XMLParser(encoding="utf-8")  # noqa: S314
    if hasattr(parser, "_setevents"):
        parser._setevents(events, ("comment", "pi"))
    try:
        parser.feed(data)
        root: Element = parser.close()
    except ParseError as error:
        raise XmlFault(condition_of(error.code), str(error)) from error
    except (UnicodeError, ValueError) as error:
        raise XmlFault("not-well-formed") from error
    if events or (not hasattr(parser, "_setevents") and _has_comment_or_instruction(data)):
        raise XmlFault("restricted-xml", "comments and processing instructions are not allowed")
    if data.count(b"<") > limits.max_depth and depth_exceeds(root, limits.max_depth):
        raise XmlFault("policy-violation", "elements are nested too deeply")
    if any(len(below.attrib) > limits.max_attributes for below in root.iter()):
        raise XmlFault("policy-violation", "too many attributes")
    return root


def _has_comment_or_instruction(data: bytes) -> bool:
    puller: Any = XMLPullParser(events=("comment", "pi"))
    puller.feed(data)
    return any(True for _ in puller.read_events())
