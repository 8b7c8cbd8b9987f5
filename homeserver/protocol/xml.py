"""XML elements: building, reading and serialising.

Elements are `xml.etree.ElementTree.Element` with ``{namespace}name`` tags. What leaves the server is written by
`serialise`, never by ElementTree's own writer: it escapes line ends so that a value survives the next parser, declares
namespaces without inventing prefixes for elements, and costs a seventh.
"""

import re
from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element, fromstring

from homeserver.protocol import namespaces as ns

__all__ = [
    "Element",
    "Written",
    "child",
    "children",
    "element",
    "escape_attribute",
    "escape_text",
    "fits_xml",
    "local_name",
    "namespace_of",
    "parse_own",
    "parse_stanza",
    "serialise",
    "text_of",
]

_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_XML_PREFIX: Final = "{" + ns.XML + "}"
_STREAM_START: Final = f"<stream xmlns='{ns.CLIENT}'>".encode()


class Written(Element):
    """An element whose ``text`` is its whole markup, its own tag and namespace included: for answers that are long and
    only sent. It has no attributes and no children to be read."""


def element(namespace: str, name: str, attributes: dict[str, str] | None = None, *content: "Element | str") -> Element:
    """Build ``<name xmlns=namespace>``; ``content`` is child elements, or text before the first child."""
    made = Element(f"{{{namespace}}}{name}", attributes or {})
    for part in content:
        if isinstance(part, str):
            made.text = (made.text or "") + part
        else:
            made.append(part)
    return made


def child(parent: Element, namespace: str, name: str) -> Element | None:
    """The first child with that name, or None."""
    return parent.find(f"{{{namespace}}}{name}")


def children(parent: Element, namespace: str, name: str) -> Iterable[Element]:
    """All direct children with that name."""
    return parent.iterfind(f"{{{namespace}}}{name}")


def text_of(parent: Element, namespace: str, name: str) -> str | None:
    """The text of the first child with that name; None where there is no such child, "" where it is empty."""
    found = parent.find(f"{{{namespace}}}{name}")
    return None if found is None else found.text or ""


def namespace_of(subject: Element) -> str:
    """The namespace of an element, "" for none. A URI may hold ``}``; a name may not, hence the split from the right."""
    return subject.tag[1:].rpartition("}")[0] if subject.tag[0] == "{" else ""


def local_name(subject: Element) -> str:
    """The name of an element without its namespace."""
    return subject.tag.rpartition("}")[2]


def fits_xml(text: str) -> bool:
    """Whether a text has only characters that XML can hold (XML 1.0 s2.2). What came as XML has no others."""
    return _NO_XML.search(text) is None


def escape_text(text: str) -> str:
    """Escape character data; a carriage return becomes a reference, or the next parser would turn it into LF."""
    if "&" in text:
        text = text.replace("&", "&amp;")
    if "<" in text:
        text = text.replace("<", "&lt;")
    if ">" in text:
        text = text.replace(">", "&gt;")
    if "\r" in text:
        text = text.replace("\r", "&#13;")
    return text


def escape_attribute(text: str) -> str:
    """Escape an attribute value for single quotes; tabs and line ends become references (XML 1.0 s3.3.3)."""
    text = escape_text(text)
    if "'" in text:
        text = text.replace("'", "&apos;")
    if "\n" in text:
        text = text.replace("\n", "&#10;")
    if "\t" in text:
        text = text.replace("\t", "&#9;")
    return text


def serialise(root: Element, default: str = ns.CLIENT) -> str:
    """Write ``root`` for a place where ``default`` is the default namespace.

    The result needs no other declaration than that one. Depth is bounded by the parser, so recursion is safe.
    """
    parts: list[str] = []
    _write(root, default, parts)
    return "".join(parts)


def parse_own(text: bytes) -> Element:
    """Read back what `serialise` wrote with ``default=""``. Not for text from outside: nothing here is bounded."""
    return fromstring(text)  # noqa: S314 - written by this server


def parse_stanza(data: bytes) -> Element:
    """Read back one stanza as it goes on a ``jabber:client`` stream. Not for text from outside: nothing here is bounded."""
    return fromstring(_STREAM_START + data + b"</stream>")[0]  # noqa: S314 - the parser of the stream bounded it


def _write(node: Element, default: str, parts: list[str]) -> None:
    if type(node) is Written:
        parts.append(node.text or "")
        return
    tag = node.tag
    namespace, _, name = tag[1:].rpartition("}") if tag[0] == "{" else ("", "", tag)
    parts.append("<" + name)
    if namespace != default:
        parts.append(f" xmlns='{escape_attribute(namespace)}'")
    for key, value in node.items():
        if key[0] == "{":
            key = _attribute_name(key, parts)
        parts.append(f" {key}='{escape_attribute(value)}'")
    text = node.text
    if not text and not len(node):
        parts.append("/>")
        return
    parts.append(">")
    if text:
        parts.append(escape_text(text))
    for below in node:
        _write(below, namespace, parts)
        if below.tail:
            parts.append(escape_text(below.tail))
    parts.append(f"</{name}>")


def _attribute_name(key: str, parts: list[str]) -> str:
    if key.startswith(_XML_PREFIX):
        return "xml:" + key[len(_XML_PREFIX) :]
    namespace, _, name = key[1:].rpartition("}")
    prefix = f"a{len(parts)}"
    parts.append(f" xmlns:{prefix}='{escape_attribute(namespace)}'")
    return f"{prefix}:{name}"
