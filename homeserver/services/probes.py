"""Probes: somebody asks for a local account's presence (RFC 6121 s4.3.2, s4.6.6)."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from homeserver.domain.subscriptions import UNSUBSCRIBED
from homeserver.protocol import namespaces as ns
from homeserver.protocol.presence import presence
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import element
from homeserver.services.presence import UNAVAILABLE, addressed

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.rosters import Roster
    from homeserver.protocol.jid import JID
    from homeserver.services.contacts import Contacts
    from homeserver.services.presence import Presence
    from homeserver.services.router import Router
    from homeserver.services.sessions import Sessions


class Probes:
    """Answers them from what sessions show. An account that is away is said to be so since when."""

    def __init__(self, presence: Presence, contacts: Contacts, sessions: Sessions, router: Router) -> None:
        self._presence = presence
        self._contacts = contacts
        self._sessions = sessions
        self._router = router

    def answer(self, account: Account | None, stanza: Stanza) -> Awaitable[None] | None:
        """Answer a probe; ``account`` is None where there is none.

        Who may not see it is answered the same whether the account exists or not.
        """
        if account is None:
            self._refuse(stanza)
            return None
        roster = self._contacts.held(account.jid.bare)
        if roster is None or not self._presence.is_online(account):
            return self._answer_later(account, stanza)
        self._answer(account, roster, stanza)
        return None

    def _refuse(self, stanza: Stanza) -> None:
        if stanza.to is not None:
            self._router.route(presence(UNSUBSCRIBED, stanza.to.to_bare(), stanza.sender.to_bare(), stanza.id))

    def _answer(self, account: Account, roster: Roster, stanza: Stanza) -> None:
        """Answer for an account that is online."""
        asker, to = stanza.sender, stanza.to
        assert to is not None
        sessions = [session for session in self._sessions.of(account.jid.bare) if to.is_bare or session.jid == to]
        if not _may_see(account, roster, asker):
            shown = [session for session in sessions if self._presence.is_shown(session, asker)]
            for session in shown:
                self._router.route(presence("", session.jid, asker))
            if not shown:
                self._refuse(stanza)
        elif to.resource:
            kind = "" if any(session.presence is not None for session in sessions) else UNAVAILABLE
            self._router.route(presence(kind, to, asker, stanza.id if kind else None))
        else:
            for session in sessions:
                if session.presence is not None:
                    self._router.route(addressed(session.presence, asker))

    async def _answer_later(self, account: Account, stanza: Stanza) -> None:
        roster = await self._contacts.roster(account)
        to = stanza.to
        if self._presence.is_online(account) or not _may_see(account, roster, stanza.sender) or (to and to.resource):
            self._answer(account, roster, stanza)
            return
        seen = await self._presence.last_seen(account)
        since = [] if seen is None else [element(ns.DELAY, "delay", {"stamp": _stamp(seen.at)})]
        self._router.route(presence(UNAVAILABLE, account.jid, stanza.sender, stanza.id, *since))


def _may_see(account: Account, roster: Roster, asker: JID) -> bool:
    return asker.bare == account.jid.bare or roster.shares_with(asker.bare)


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
