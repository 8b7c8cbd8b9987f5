"""The opening tag of a stream, read by a strict parser (RFC 6120 s4.2, s11)."""

import re
from typing import Final
from xml.parsers import expat

from homeserver.protocol.xml_input import StreamHeader, XmlFault, condition_of

TAG: Final = re.compile(rb"""<(?:[!?]|[^<>'"]*(?:'[^']*'[^<>'"]*|"[^"]*"[^<>'"]*)*>)""")
"""A complete tag, quotes respected; or the beginning of other markup."""


class _HeaderRead(Exception):
    """Ends the strict parser at the root tag."""


def read_header(data: bytes) -> tuple[StreamHeader, int, int] | None:
    """Read the opening tag; returns it with its first and last offset, or None if ``data`` stops before its end.

    Raises `XmlFault` for a DTD, a comment, an instruction, another encoding or XML version, and bad XML.
    """
    parser = expat.ParserCreate("UTF-8", "}")
    namespaces: dict[str, str] = {}
    found: list[tuple[str, dict[str, str], int]] = []

    def declaration(version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding is not None and encoding.lower() != "utf-8"):
            raise XmlFault("unsupported-encoding")

    def refuse(*_: object) -> None:
        raise XmlFault("restricted-xml")

    def bind(prefix: str | None, uri: str | None) -> None:
        namespaces[prefix or ""] = uri or ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        found.append((_universal(tag), {_universal(k): v for k, v in attributes.items()}, parser.CurrentByteIndex))
        raise _HeaderRead

    parser.XmlDeclHandler = declaration
    parser.StartDoctypeDeclHandler = refuse
    parser.CommentHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    parser.StartNamespaceDeclHandler = bind
    parser.StartElementHandler = start
    try:
        parser.Parse(data, False)
    except _HeaderRead:
        tag, attributes, first = found[0]
        end = TAG.match(data, first)
        assert end is not None
        return StreamHeader(tag, attributes, namespaces), first, end.end()
    except expat.ExpatError as error:
        raise XmlFault(condition_of(error.code), str(error)) from error
    return None


def _universal(name: str) -> str:
    return "{" + name if "}" in name else name
