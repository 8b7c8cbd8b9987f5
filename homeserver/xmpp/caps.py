"""Entity capabilities of the server itself (XEP-0115): a hash of its disco answer in the stream features."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import LANG
from homeserver.protocol.xml import Element, children, element
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.feature import feature

NODE: Final = ns.PARLEY_SERVER


def verification_string(info: Element) -> str:
    """The ``ver`` of a disco#info query: SHA-1 over its identities, features and forms (XEP-0115 s5.1)."""
    identities = sorted(
        "/".join((found.get("category", ""), found.get("type", ""), found.get(LANG, ""), found.get("name", "")))
        for found in children(info, ns.DISCO_INFO, "identity")
    )
    features = sorted(found.get("var", "") for found in children(info, ns.DISCO_INFO, "feature"))
    forms = sorted(_form(found) for found in children(info, ns.DATA_FORM, "x"))
    parts = [*identities, *features, *(part for form in forms for part in form)]
    text = "".join(part + "<" for part in parts)
    return b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


def _form(form: Element) -> list[str]:
    """A form's part of the string: FORM_TYPE first, then the fields by name with their values sorted."""
    fields = {found.get("var", ""): sorted(_values(found)) for found in children(form, ns.DATA_FORM, "field")}
    parts = fields.pop("FORM_TYPE", [""])
    for name in sorted(fields):
        parts += [name, *fields[name]]
    return parts


def _values(field: Element) -> Iterator[str]:
    for value in children(field, ns.DATA_FORM, "value"):
        yield value.text or ""


@feature(xep=115, version="1.6.0", disco=(ns.CAPS,))
class Caps:
    """The server's own capabilities. The node in the hash is answered by service discovery."""

    catalogue: Catalogue

    def element(self, domain: str) -> Element:
        """The ``<c/>`` for the stream features of a domain (XEP-0115 s6.3)."""
        ver = verification_string(self.catalogue.domain_info(domain))
        return element(ns.CAPS, "c", {"hash": "sha-1", "node": NODE, "ver": ver})
