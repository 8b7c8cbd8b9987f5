"""What was displayed, among the devices of an account (XEP-0490)."""

from homeserver.domain.pubsub import NewItem
from homeserver.domain.sessions import Session
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, serialise
from homeserver.services.pubsub.service import PubSub
from homeserver.xmpp.feature import feature, on_message_part


@feature(xep=490, version="1.0.1", account_disco=(ns.DISPLAYED_ASSIST,))
class DisplayedSync:
    """Publishes what a client says along with a displayed marker; without that, it is publish-subscribe like any other."""

    pubsub: PubSub

    @on_message_part(ns.DISPLAYED_SYNC, "displayed")
    async def displayed(self, session: Session, to: str, part: Element) -> None:
        """XEP-0490 s4.5.3: the item is named by the address of the message. What it says is not checked (s5.2)."""
        account = session.account.jid
        item = NewItem(to, serialise(part, "").encode())
        await self.pubsub.publish(account, ns.DISPLAYED_SYNC, session.jid, [item])
