"""Presence stanzas and what they ask for (RFC 6121 s3, s4)."""

from collections.abc import Awaitable

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.sessions import Session
from homeserver.domain.subscriptions import SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED
from homeserver.protocol.presence import readdressed
from homeserver.protocol.stanza import Stanza
from homeserver.services.contacts import Contacts
from homeserver.services.presence import UNAVAILABLE, Presence
from homeserver.services.probes import Probes
from homeserver.services.router import Router
from homeserver.xmpp.addressing import Multicast
from homeserver.xmpp.feature import feature, on_presence


@feature(rfc="RFC 6121", version="2011-03")
class CorePresence:
    """Gives each presence to the service whose it is."""

    contacts: Contacts
    presence: Presence
    probes: Probes
    router: Router
    multicast: Multicast

    # --- from a local session ---------------------------------------------------------------------------------------

    @on_presence("", UNAVAILABLE, outbound=True)
    def show(self, session: Session, stanza: Stanza) -> Awaitable[None] | None:
        """Broadcast presence without an address (s4.2 to s4.5), directed presence with one (s4.6)."""
        if stanza.to is not None:
            loading = self.presence.prepare(session.account)
            if loading is not None:
                return self._direct_later(session, stanza, loading)
            self._direct(session, stanza)
            return None
        if stanza.type == UNAVAILABLE:
            self.presence.unavailable(session, stanza)
            return None
        return self.presence.available(session, stanza)

    async def _direct_later(self, session: Session, stanza: Stanza, loading: Awaitable[None]) -> None:
        await loading
        self._direct(session, stanza)

    def _direct(self, session: Session, stanza: Stanza) -> None:
        if not self.multicast.show(session, stanza):
            self.presence.directed(session, stanza)

    @on_presence(SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED, outbound=True)
    def manage(self, session: Session, stanza: Stanza) -> Awaitable[None]:
        """Ask for, grant, end or refuse a subscription (s3)."""
        return self.contacts.outbound(session.account, stanza)

    @on_presence("probe", "error", outbound=True)
    def pass_on(self, session: Session, stanza: Stanza) -> None:
        """A client's own probe goes out in the account's name (s4.3); an error goes back to whom it answers."""
        if stanza.to is not None:
            sender = session.account.jid if stanza.type == "probe" else session.jid
            self.router.route(readdressed(stanza, sender, stanza.to))

    # --- for a local account ----------------------------------------------------------------------------------------

    @on_presence("", UNAVAILABLE, "error", outbound=False)
    def receive(self, account: Account, stanza: Stanza) -> None:
        """Presence of a contact, for the account's sessions (s4.2.3, s4.4.3, s4.5.3)."""
        if account.state is not AccountState.DELETED:
            self.presence.received(account, stanza)

    @on_presence(SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED, outbound=False)
    def managed(self, account: Account, stanza: Stanza) -> Awaitable[None] | None:
        """A contact asks for, grants, ends or refuses a subscription (s3)."""
        return None if account.state is AccountState.DELETED else self.contacts.inbound(stanza)

    @on_presence("probe", outbound=False)
    def probed(self, account: Account | None, stanza: Stanza) -> Awaitable[None] | None:
        """Somebody asks whether the account is there (s4.3.2); ``account`` is None where there is none."""
        exists = account is not None and account.state is not AccountState.DELETED
        return self.probes.answer(account if exists else None, stanza)
