"""Messages for accounts that are away (XEP-0160).

What waits is decided in ``core_message.py``, given in ``services/delivery.py``; here it is told to those who ask.
"""

from homeserver.protocol import namespaces as ns
from homeserver.xmpp.feature import feature


@feature(xep=160, version="1.0.1", disco=(ns.OFFLINE,))
class Offline:
    """Says that messages wait for who is away (XEP-0160 s4)."""
