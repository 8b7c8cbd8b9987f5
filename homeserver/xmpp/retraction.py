"""Messages that are taken back (XEP-0424).

The archive keeps the retraction and leaves a tombstone for what it names, in the same commit: ``services/mailboxes.py``
does it for messages of the retraction's own sender, whoever asks.
"""

from homeserver.protocol import namespaces as ns
from homeserver.xmpp.feature import feature


@feature(
    xep=424,
    version="0.4.2",
    disco=(ns.RETRACTION,),
    account_disco=(ns.RETRACTION, ns.RETRACTION_TOMBSTONE),
)
class Retraction:
    """Says that retractions are archived and that tombstones are kept (s2, s4)."""
