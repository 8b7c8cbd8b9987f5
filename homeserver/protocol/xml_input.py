"""What the XML parsers share: limits, refusals and the things they find."""

from dataclasses import dataclass
from xml.parsers import expat

from homeserver.protocol.xml import Element


class XmlFault(Exception):
    """The peer's XML is refused.

    ``condition`` is the stream error condition of RFC 6120 s4.9.3, ``items`` what was complete before the fault.
    """

    def __init__(self, condition: str, text: str = "", items: "list[Item] | None" = None) -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text
        self.items: list[Item] = items if items is not None else []


@dataclass(frozen=True, slots=True)
class XmlLimits:
    """What one peer may send: bytes, nesting and attributes of one top-level element, bytes of a stream header."""

    max_bytes: int = 262_144
    max_depth: int = 64
    max_attributes: int = 128
    header_bytes: int = 4096
    renew_after_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """An opening stream tag: its ``{namespace}name``, attributes, and declared prefixes ("" is the default)."""

    tag: str
    attributes: dict[str, str]
    namespaces: dict[str, str]


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The closing stream tag."""


Item = tuple[Element, bytes | None] | StreamHeader | StreamEnd
"""A complete top-level element with its bytes where they may be spliced, or one of the two tags around the stream."""


def depth_exceeds(root: Element, limit: int) -> bool:
    """Whether elements nest deeper than ``limit``, the root counted; iterative, so that depth costs no stack."""
    level = [root]
    for _ in range(limit):
        level = [below for node in level for below in node]
        if not level:
            return False
    return True


def condition_of(code: int) -> str:
    """The stream error condition for an expat error code."""
    errors = expat.errors
    kind = expat.errors.messages.get(code, "")
    if kind in (errors.XML_ERROR_UNKNOWN_ENCODING, errors.XML_ERROR_INCORRECT_ENCODING):
        return "unsupported-encoding"
    if kind in (errors.XML_ERROR_UNDEFINED_ENTITY, errors.XML_ERROR_MISPLACED_XML_PI):
        return "restricted-xml"
    return "not-well-formed"
