"""Live sessions of local accounts: who is connected, under which resource."""

from collections.abc import Callable, Sequence

from homeserver.domain.errors import Conflict, ResourceConstraint
from homeserver.domain.sessions import Session
from homeserver.protocol.jid import JID


class Sessions:
    """Every bound session of this process, hibernating ones (XEP-0198 s5) included.

    ``limit`` is the number of sessions one account may have. ``on_bound`` is called with a session that was registered,
    ``on_ended`` with one after it is gone for good.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._accounts: dict[str, list[Session]] = {}
        self.on_bound: list[Callable[[Session], None]] = []
        self.on_ended: list[Callable[[Session], None]] = []

    def bind(self, session: Session) -> None:
        """Register a session under its full JID; one that holds the same resource is ended (RFC 6120 s7.7.2.2).

        Raises `ResourceConstraint` where the account has too many sessions.
        """
        for other in self.of(session.jid.bare):
            if other.jid.resource == session.jid.resource:
                other.disconnect("conflict", "Replaced by a new connection with the same resource")
                break
        bound = self.of(session.jid.bare)
        if len(bound) >= self.limit:
            raise ResourceConstraint("Too many sessions of this account")
        if any(other.jid.resource == session.jid.resource for other in bound):
            raise Conflict("Resource in use")
        self._accounts[session.jid.bare] = [*bound, session]
        for listener in self.on_bound:
            listener(session)

    def unbind(self, session: Session) -> None:
        """Forget a session and tell those who listen. Does nothing for one that is not registered."""
        bound = self._accounts.get(session.jid.bare)
        if bound is None or session not in bound:
            return
        if len(bound) > 1:
            self._accounts[session.jid.bare] = [other for other in bound if other is not session]
        else:
            del self._accounts[session.jid.bare]
        for listener in self.on_ended:
            listener(session)

    def of(self, bare: str) -> Sequence[Session]:
        """The sessions of an account, in the order they were bound. It does not change while it is walked through."""
        return self._accounts.get(bare, ())

    def find(self, jid: JID) -> Session | None:
        """The session bound to a full JID."""
        for session in self._accounts.get(jid.bare, ()):
            if session.jid.resource == jid.resource:
                return session
        return None

    def everyone(self) -> list[Session]:
        """A snapshot of all sessions."""
        return [session for bound in self._accounts.values() for session in bound]

    def __len__(self) -> int:
        return sum(len(bound) for bound in self._accounts.values())
