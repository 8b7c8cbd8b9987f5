"""Invitations over XMPP: made by commands (XEP-0401), and brought by subscription requests (XEP-0379), which are granted
and returned without asking anybody."""

from datetime import UTC, datetime
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest
from homeserver.domain.invites import InviteKind
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import child
from homeserver.services.contacts import Contacts
from homeserver.services.invites import Invite, Invites, Wish, register_uri
from homeserver.xmpp.commands import MEMBERS, OPERATORS, Ask, Call, Done, command
from homeserver.xmpp.feature import feature

_TITLE: Final = "Create an account"
_FORM: Final = (
    forms.Field("username", type="text-single", label="Name of the account; free choice if empty"),
    forms.Field("roster-subscription", ("0",), type="boolean", label="Become contacts"),
)


@feature(xep=379, version="0.3.3")
class Invitations:
    """Reads the token of a request; the contacts service asks about every request for an account here."""

    invites: Invites
    contacts: Contacts

    def __post_init__(self) -> None:
        self.contacts.admits = self.admits

    async def admits(self, account: Account, request: Stanza) -> bool:
        """Whether the request holds a valid token of ``account``, which is used by that (XEP-0379 s3.5, s5.2).

        A wrong token counts as none (s4.1), and nothing is used by somebody who is a subscriber already.
        """
        found = child(request.element, ns.PRE_AUTHENTICATION, "preauth")
        if found is None:
            return False
        contact = (await self.contacts.roster(account)).get(request.sender.bare)
        if contact is not None and contact.state.shares:
            return False
        return await self.invites.redeem(account, found.get("token", ""))


@feature(xep=401, version="0.6.0")
class InviteCommands:
    """What a client runs to invite somebody."""

    invites: Invites

    @command(ns.INVITE_COMMAND, "Invite user", roles=MEMBERS)
    async def invite(self, call: Call) -> Done:
        """XEP-0401 s5.1: at once; with an account here where accounts are made by invitation."""
        made = await self.invites.create(call.account, Wish())
        return _made(made, made.uri)

    @command(ns.CREATE_ACCOUNT_COMMAND, _TITLE, roles=OPERATORS)
    async def create_account(self, call: Call) -> Ask | Done:
        """XEP-0401 s5.4."""
        if call.form is None:
            return Ask(forms.build("form", ns.CREATE_ACCOUNT_COMMAND, _FORM, _TITLE))
        try:
            kind = InviteKind.BOTH if call.form.flag("roster-subscription") else InviteKind.ACCOUNT
        except forms.InvalidForm as error:
            raise BadRequest(str(error)) from error
        wish = Wish(kind, domain=call.domain, username=call.form.first("username").strip())
        made = await self.invites.create(call.account, wish)
        return _made(made, register_uri(call.domain, wish.username, made.token))


def _made(invite: Invite, uri: str) -> Done:
    expire = datetime.fromtimestamp(int(invite.expires), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = (
        forms.Field("uri", (uri,), "text-single", "For apps"),
        forms.Field("landing-url", (invite.url,), "text-single", "Page"),
        forms.Field("expire", (expire,), "text-single", "Valid until"),
    )
    return Done(form=forms.build("result", ns.INVITATION_FORM, fields))
