"""Entity capabilities: what a client says of itself in a hash (XEP-0115).

A client puts the hash of its disco#info into its presence. Whoever wants to know more asks for it once and keeps the
answer for all who advertise the same hash, if the answer has that hash.

Different answers may give the same text to be hashed, for instance with a feature written as a form. So the interests
of a verified answer are read from that text itself: they depend on nothing but what the hash proves.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Final, NamedTuple

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import LANG
from homeserver.protocol.xml import Element, child, children

ALGORITHMS: Final = {
    "sha-1": "sha1",
    "sha-224": "sha224",
    "sha-256": "sha256",
    "sha-384": "sha384",
    "sha-512": "sha512",
}
"""Hash functions that are checked, by their names in XML (XEP-0300)."""
NOTIFY: Final = "+notify"
"""A feature that ends so asks for notifications of the node before it (XEP-0060 s9.2)."""
MAX_ATTRIBUTE: Final = 1024
MAX_PARTS: Final = 2000
"""Identities, features and fields of one answer."""
MAX_TEXT: Final = 128 * 1024
MAX_INTERESTS: Final = 256


class IllFormed(ValueError):
    """An answer that says something twice, or too much (XEP-0115 s5.4)."""


class Advertised(NamedTuple):
    """What stands in ``<c/>``: hash function ("" where none is named), the program's node, the hash."""

    algorithm: str
    node: str
    ver: str

    @property
    def query_node(self) -> str:
        """The node that disco#info is asked for (XEP-0115 s6.2)."""
        return f"{self.node}#{self.ver}"

    @property
    def is_verifiable(self) -> bool:
        """Whether an answer can be checked against the hash."""
        return self.algorithm in ALGORITHMS


class Answer(NamedTuple):
    """What a disco#info answer says: the nodes of which notifications are wanted, and whether the hash proves it."""

    interests: frozenset[str]
    is_verified: bool


def advertised(presence: Element) -> Advertised | None:
    """The capabilities that a presence advertises; None where there are none, or attributes are missing or too long."""
    found = child(presence, ns.CAPS, "c")
    if found is None:
        return None
    algorithm, node, ver = found.get("hash", ""), found.get("node", ""), found.get("ver", "")
    if not node or not ver or max(len(algorithm), len(node), len(ver)) > MAX_ATTRIBUTE:
        return None
    return Advertised(algorithm, node, ver)


def verification_string(info: Element, algorithm: str = "sha-1") -> str:
    """The ``ver`` of a disco#info query: a hash over its identities, features and forms (XEP-0115 s5.1)."""
    return _hashed(_text(info), algorithm)


def read(info: Element, said: Advertised) -> Answer:
    """Check an answer against what was advertised (XEP-0115 s5.4). Raises `IllFormed`."""
    _check(info)
    text = _text(info)
    if len(text) > MAX_TEXT:
        raise IllFormed("the answer is too long")
    if said.is_verifiable and _hashed(text, said.algorithm) == said.ver:
        return Answer(_interests(text.split("<")), True)
    return Answer(_interests(found.get("var", "") for found in children(info, ns.DISCO_INFO, "feature")), False)


def _interests(parts: "Iterator[str] | list[str]") -> frozenset[str]:
    found = frozenset(part.removesuffix(NOTIFY) for part in parts if part.endswith(NOTIFY) and part != NOTIFY)
    if len(found) > MAX_INTERESTS:
        raise IllFormed("too many nodes are of interest")
    return found


def _check(info: Element) -> None:
    """Refuse what XEP-0115 s5.4 calls ill-formed: anything that is there twice."""
    if len(info) > MAX_PARTS or sum(len(form) for form in info) > MAX_PARTS:
        raise IllFormed("the answer has too many parts")
    identities = [_identity(found) for found in children(info, ns.DISCO_INFO, "identity")]
    features = [found.get("var", "") for found in children(info, ns.DISCO_INFO, "feature")]
    types = [parts[0] for form in children(info, ns.DATA_FORM, "x") if (parts := _form(form))]
    if any(len(set(found)) < len(found) for found in (identities, features, types)):
        raise IllFormed("something is said twice")
    for form in children(info, ns.DATA_FORM, "x"):
        for field in children(form, ns.DATA_FORM, "field"):
            if field.get("var") == "FORM_TYPE" and len(set(_values(field))) > 1:
                raise IllFormed("a form has two types")


def _text(info: Element) -> str:
    identities = sorted(_identity(found) for found in children(info, ns.DISCO_INFO, "identity"))
    features = sorted(found.get("var", "") for found in children(info, ns.DISCO_INFO, "feature"))
    forms = sorted(parts for found in children(info, ns.DATA_FORM, "x") if (parts := _form(found)))
    parts = ["/".join(identity) for identity in identities]
    parts += features
    for form in forms:
        parts += form
    return "".join(part + "<" for part in parts)


def _identity(found: Element) -> tuple[str, str, str, str]:
    return (found.get("category", ""), found.get("type", ""), found.get(LANG, ""), found.get("name", ""))


def _form(form: Element) -> list[str]:
    """A form's part of the text: FORM_TYPE first, then the fields by name with their values sorted.

    Empty for a form without a hidden FORM_TYPE, which is ignored (XEP-0115 s5.4).
    """
    kind: str | None = None
    fields: list[tuple[str, list[str]]] = []
    for field in children(form, ns.DATA_FORM, "field"):
        var, values = field.get("var", ""), sorted(_values(field))
        if var != "FORM_TYPE":
            fields.append((var, values))
        elif field.get("type") == "hidden" and values:
            kind = values[0]
    if kind is None:
        return []
    parts = [kind]
    for var, values in sorted(fields):
        parts += [var, *values]
    return parts


def _values(field: Element) -> Iterator[str]:
    for value in children(field, ns.DATA_FORM, "value"):
        yield value.text or ""


def _hashed(text: str, algorithm: str) -> str:
    return b64encode(hashlib.new(ALGORITHMS[algorithm], text.encode(), usedforsecurity=False).digest()).decode()
