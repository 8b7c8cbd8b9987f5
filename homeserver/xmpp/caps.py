"""Entity capabilities of the server itself (XEP-0115): a hash of its disco answer in the stream features."""

from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.caps import verification_string
from homeserver.protocol.xml import Element, element
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.feature import feature

NODE: Final = ns.PARLEY_SERVER


@feature(xep=115, version="1.6.0", disco=(ns.CAPS,))
class Caps:
    """The server's own capabilities. The node in the hash is answered by service discovery."""

    catalogue: Catalogue

    def element(self, domain: str) -> Element:
        """The ``<c/>`` for the stream features of a domain (XEP-0115 s6.3)."""
        ver = verification_string(self.catalogue.domain_info(domain))
        return element(ns.CAPS, "c", {"hash": "sha-1", "node": NODE, "ver": ver})
