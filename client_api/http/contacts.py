"""Contacts: the list, requests and what answers them. Live changes come as frames of the socket."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from client_api.http.endpoint import endpoint
from client_api.http.events import check_texts
from client_api.http.messages import Id, Messages, Recipient
from homeserver.domain.errors import Blocked, JidMalformed, NotAcceptable, NotAllowed, NotFound
from homeserver.domain.rosters import Contact
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import text_of
from homeserver.services.contacts import Contacts
from homeserver.services.tokens import Caller

ContactName = Annotated[str, Meta(max_length=10_000)]
ContactGroups = Annotated[list[Annotated[str, Meta(min_length=1, max_length=10_000)]], Meta(max_length=1000)]


class ContactInfo(Struct):
    """A contact. ``subscription``: whose presence is seen by whom, ``to`` the account sees the contact's, ``from`` the
    contact sees the account's. ``asking``: the account waits for the contact's answer, ``asked``: the contact waits."""

    jid: str
    name: str
    groups: list[str]
    subscription: Literal["none", "to", "from", "both"]
    asking: bool
    asked: bool


class ContactList(Struct):
    """The contacts, by address."""

    contacts: list[ContactInfo]


class NewContact(Struct, forbid_unknown_fields=True):
    """A contact to be added; ``jid`` may be the ``user_id`` of an account here."""

    jid: Recipient | Id
    name: ContactName = ""
    groups: ContactGroups = []


class ContactChoice(Struct, forbid_unknown_fields=True):
    """How the account calls a contact, and the groups it keeps it in."""

    name: ContactName = ""
    groups: ContactGroups = []


class ContactRequest(Struct, forbid_unknown_fields=True):
    """``text`` is shown to the contact; ``invite`` is a token the contact gave, with which it need not answer."""

    text: Annotated[str, Meta(max_length=1024)] = ""
    invite: Annotated[str, Meta(max_length=128)] = ""


class WaitingRequest(Struct):
    """Somebody who asks to see the account's presence, and what it says."""

    jid: str
    text: str


class WaitingRequests(Struct):
    """Requests without an answer, by address."""

    requests: list[WaitingRequest]


class ContactEndpoints:
    """The contacts of the account; ``{contact}`` is a bare address or the user_id of an account here."""

    def __init__(self, contacts: Contacts, messages: Messages) -> None:
        self._contacts = contacts
        self._messages = messages

    @endpoint("GET", "/v1/contacts", returns=ContactList)
    async def listing(self, caller: Caller) -> ContactList:
        """The contacts of the account."""
        found = sorted(await self._contacts.list(caller.account), key=lambda contact: contact.jid.bare)
        return ContactList([info_of(contact) for contact in found])

    @endpoint(
        "POST",
        "/v1/contacts",
        body=NewContact,
        returns=ContactInfo,
        status=201,
        errors=(JidMalformed, NotAcceptable, NotAllowed, NotFound),
    )
    async def add(self, caller: Caller, body: NewContact) -> ContactInfo:
        """Add a contact, without asking it for anything."""
        check_texts(body.name, *body.groups)
        jid = await self._messages.resolve(body.jid)
        return info_of(await self._contacts.set(caller.account, jid, body.name, body.groups))

    @endpoint("GET", "/v1/contacts/requests", returns=WaitingRequests)
    async def requests(self, caller: Caller) -> WaitingRequests:
        """Those who ask to see the account's presence and have no answer yet."""
        return WaitingRequests(
            [
                WaitingRequest(stanza.sender.bare, text_of(stanza.element, ns.CLIENT, "status") or "")
                for stanza in await self._contacts.asked(caller.account)
            ]
        )

    @endpoint("GET", "/v1/contacts/{contact}", returns=ContactInfo, errors=(JidMalformed, NotFound))
    async def show(self, caller: Caller, contact: str) -> ContactInfo:
        """One contact."""
        jid = await self._messages.conversation(contact)
        found = (await self._contacts.roster(caller.account)).get(jid.bare)
        if found is None or not found.listed:
            raise NotFound("no such contact")
        return info_of(found)

    @endpoint(
        "PUT",
        "/v1/contacts/{contact}",
        body=ContactChoice,
        returns=ContactInfo,
        errors=(JidMalformed, NotAcceptable, NotAllowed, NotFound),
    )
    async def change(self, caller: Caller, contact: str, body: ContactChoice) -> ContactInfo:
        """Set name and groups of a contact, which is added if it is none."""
        check_texts(body.name, *body.groups)
        jid = await self._messages.conversation(contact)
        return info_of(await self._contacts.set(caller.account, jid, body.name, body.groups))

    @endpoint("DELETE", "/v1/contacts/{contact}", status=204, errors=(JidMalformed, NotFound))
    async def remove(self, caller: Caller, contact: str) -> None:
        """Remove a contact; neither sees the other's presence any more."""
        await self._contacts.remove(caller.account, await self._messages.conversation(contact))

    @endpoint(
        "POST",
        "/v1/contacts/{contact}/request",
        body=ContactRequest,
        status=204,
        errors=(JidMalformed, NotAcceptable, NotAllowed, NotFound, Blocked),
    )
    async def request(self, caller: Caller, contact: str, body: ContactRequest) -> None:
        """Ask to see a contact's presence; with an invitation of the contact's both see each other at once."""
        check_texts(body.text, body.invite)
        jid = await self._messages.conversation(contact)
        await self._contacts.request(caller.account, jid, body.text, body.invite)

    @endpoint("POST", "/v1/contacts/{contact}/accept", status=204, errors=(JidMalformed, NotAllowed, NotFound, Blocked))
    async def accept(self, caller: Caller, contact: str) -> None:
        """Let somebody who asked see the account's presence."""
        await self._contacts.accept(caller.account, await self._messages.conversation(contact))

    @endpoint(
        "POST", "/v1/contacts/{contact}/decline", status=204, errors=(JidMalformed, NotAllowed, NotFound, Blocked)
    )
    async def decline(self, caller: Caller, contact: str) -> None:
        """Refuse somebody who asked."""
        await self._contacts.decline(caller.account, await self._messages.conversation(contact))


def info_of(contact: Contact) -> ContactInfo:
    """A contact as clients see it."""
    subscription: Literal["none", "to", "from", "both"] = contact.state.subscription  # type: ignore[assignment]
    return ContactInfo(
        contact.jid.bare,
        contact.name,
        list(contact.groups),
        subscription,
        contact.state.is_asking,
        contact.state.is_asked,
    )
