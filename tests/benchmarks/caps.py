"""What a client of the generator says of itself: entity capabilities, and the answer that proves them (XEP-0115)."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

METADATA: Final = "urn:xmpp:avatar:metadata"
MOOD: Final = "http://jabber.org/protocol/mood"
_NODE: Final = "https://bench.example"
_INFO: Final = "http://jabber.org/protocol/disco#info"
_QUESTION: Final = re.compile(rb"<iq\b([^>]*)>\s*<query\b([^>]*disco#info[^>]*)>")


@dataclass(frozen=True)
class Capabilities:
    """A client that wants to be notified of ``nodes``."""

    nodes: Sequence[str]

    @property
    def features(self) -> list[str]:
        """What service discovery says, in the order of the hash."""
        return sorted((_INFO, "http://jabber.org/protocol/caps", *(f"{node}+notify" for node in self.nodes)))

    def element(self) -> str:
        """The ``<c/>`` of a presence (XEP-0115 s5.1)."""
        text = "client/pc//bench<" + "".join(f"{feature}<" for feature in self.features)
        ver = base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
        return f"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='{_NODE}' ver='{ver}'/>"

    def answers(self, received: bytes) -> bytes:
        """Results for all questions of service discovery among the bytes (XEP-0115 s6.2); b"" where there are none."""
        features = "".join(f"<feature var='{feature}'/>" for feature in self.features)
        made = []
        for iq, query in _QUESTION.findall(received):
            to = f" to={quoteattr(_attribute(iq, 'from'))}" if b"from=" in iq else ""
            made.append(
                f"<iq type='result' id={quoteattr(_attribute(iq, 'id'))}{to}>"
                f"<query xmlns='{_INFO}' node={quoteattr(_attribute(query, 'node'))}>"
                f"<identity category='client' type='pc' name='bench'/>{features}</query></iq>"
            )
        return "".join(made).encode()


def _attribute(tag: bytes, name: str) -> str:
    found = re.search(rf"\b{name}=(['\"])(.*?)\1".encode(), tag)
    return found[2].decode() if found else ""
