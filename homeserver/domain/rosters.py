"""Rosters: what an account holds about its contacts (RFC 6121 s2)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homeserver.domain.accounts import Account
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact of one account. ``jid`` is bare.

    ``listed`` is False for someone who only asked for a subscription: RFC 6121 s3.1.3 keeps them out of the roster.
    ``version`` is that of the roster after the contact last changed in a way that clients see, or was removed from it;
    0 if never.
    """

    jid: JID
    name: str = ""
    groups: tuple[str, ...] = ()
    state: State = State.NONE
    approved: bool = False
    listed: bool = False
    version: int = 0

    def looks_like(self, other: "Contact") -> bool:
        """Whether a client that sees the roster could not tell the two apart (RFC 6121 s2.6.3, "roster modification").

        A request that waits for an answer is not part of the roster.
        """
        if not self.listed and not other.listed:
            return True
        return (
            self.listed is other.listed
            and self.name == other.name
            and self.groups == other.groups
            and self.approved is other.approved
            and self.state.subscription == other.state.subscription
            and self.state.is_asking is other.state.is_asking
        )


@dataclass(frozen=True, slots=True)
class ContactChange:
    """A committed change of one contact of a local account."""

    account: Account
    before: Contact
    after: Contact


class Roster:
    """One account's contacts in memory, as last committed.

    ``version`` grows with every change that clients see; ``floor`` is the oldest version from which the changes can
    still be told. There is one `Roster` per account and process; the contacts service changes it in place.
    """

    __slots__ = ("__weakref__", "_contacts", "_receives", "_shares", "account", "floor", "version")

    def __init__(self, account: int, version: int = 0, floor: int = 0, contacts: Iterable[Contact] = ()) -> None:
        self.account = account
        self.version = version
        self.floor = floor
        self._contacts = {contact.jid.bare: contact for contact in contacts}
        self._shares: tuple[JID, ...] | None = None
        self._receives: tuple[JID, ...] | None = None

    def get(self, bare: str) -> Contact | None:
        """What is held about that bare JID, listed or not."""
        return self._contacts.get(bare)

    def listed(self) -> list[Contact]:
        """The items of the roster."""
        return [contact for contact in self._contacts.values() if contact.listed]

    def asking(self) -> list[Contact]:
        """Those who asked to see the account's presence and have no answer yet."""
        return [contact for contact in self._contacts.values() if contact.state.is_asked]

    def changed_since(self, version: int) -> list[Contact] | None:
        """Contacts that changed after ``version``, oldest change first, removed ones with ``listed`` False.

        None where that cannot be told, or where the whole roster is shorter.
        """
        if not self.floor <= version <= self.version:
            return None
        changed = [contact for contact in self._contacts.values() if contact.version > version]
        if len(changed) > max(1, sum(contact.listed for contact in self._contacts.values())):
            return None
        return sorted(changed, key=lambda contact: contact.version)

    def shares_with(self, bare: str) -> bool:
        """Whether that bare JID may see the account's presence."""
        contact = self._contacts.get(bare)
        return contact is not None and contact.state.shares

    def receives_from(self, bare: str) -> bool:
        """Whether the account may see the presence of that bare JID."""
        contact = self._contacts.get(bare)
        return contact is not None and contact.state.receives

    @property
    def subscribers(self) -> Sequence[JID]:
        """Bare JIDs that see the account's presence (subscription from or both)."""
        if self._shares is None:
            shares = tuple(contact.jid for contact in self._contacts.values() if contact.state.shares)
            self._shares = self._receives if self._receives is not None and shares == self._receives else shares
        return self._shares

    @property
    def subscriptions(self) -> Sequence[JID]:
        """Bare JIDs whose presence the account sees (subscription to or both)."""
        if self._receives is None:
            receives = tuple(contact.jid for contact in self._contacts.values() if contact.state.receives)
            self._receives = self._shares if self._shares is not None and receives == self._shares else receives
        return self._receives

    def apply(self, contact: Contact, forgotten: bool = False) -> None:
        """Take over what was committed; ``forgotten`` when nothing is kept of the contact any more."""
        if forgotten:
            self._contacts.pop(contact.jid.bare, None)
        else:
            self._contacts[contact.jid.bare] = contact
        self._shares = self._receives = None

    def trim(self, floor: int) -> None:
        """Forget removals up to version ``floor``."""
        self.floor = floor
        for bare, contact in list(self._contacts.items()):
            if not contact.listed and not contact.state.is_asked and contact.version <= floor:
                del self._contacts[bare]

    def clear(self) -> None:
        """The account is gone."""
        self._contacts.clear()
        self._shares = self._receives = None
