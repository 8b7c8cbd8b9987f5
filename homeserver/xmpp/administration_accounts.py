"""Commands about accounts (XEP-0133 s4.1 to s4.10, s4.29)."""

from typing import Final

from homeserver.domain.errors import BadRequest
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import element
from homeserver.services.administration import Administration
from homeserver.services.invites import Invites
from homeserver.services.roster_stanzas import item
from homeserver.xmpp.administration_forms import (
    ACCOUNT,
    ACCOUNTS,
    account_of,
    accounts_of,
    addresses_of,
    ask,
    found,
    moment,
    result,
)
from homeserver.xmpp.commands import ADMINS, OPERATORS, Ask, Call, Done, command
from homeserver.xmpp.feature import feature

_PASSWORD: Final = forms.Field("password", type="text-private", label="Password", is_required=True)
_AGAIN: Final = forms.Field("password-verify", type="text-private", label="Password again")


@feature(xep=133, version="1.3.1")
class AccountCommands:
    """Makes, changes and ends accounts."""

    administration: Administration

    @command(f"{ns.ADMIN}#add-user", "Add user", roles=OPERATORS)
    async def add_user(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.1."""
        if call.form is None:
            return ask("Add an account", ACCOUNT, _PASSWORD, _AGAIN)
        jid, password = account_of(call), call.value("password")
        if call.form.first("password-verify", password) != password:
            raise BadRequest("the passwords differ")
        made = await self.administration.add(call.account, jid, password)
        return Done(f"{made.jid.bare} was made")

    @command(f"{ns.ADMIN}#delete-user", "Delete user", roles=ADMINS)
    async def delete_user(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.2. Names of deleted accounts stay taken."""
        if call.form is None:
            return ask("Delete accounts", ACCOUNTS)
        await self.administration.delete(call.account, accounts_of(call))
        return Done("Deleted")

    @command(f"{ns.ADMIN}#disable-user", "Disable user", roles=OPERATORS)
    async def disable_user(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.3."""
        if call.form is None:
            return ask("Disable accounts", ACCOUNTS)
        await self.administration.disable(call.account, accounts_of(call))
        return Done("Disabled")

    @command(f"{ns.ADMIN}#reenable-user", "Enable user", roles=OPERATORS)
    async def reenable_user(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.4."""
        if call.form is None:
            return ask("Enable accounts", ACCOUNTS)
        await self.administration.enable(call.account, accounts_of(call))
        return Done("Enabled")

    @command(f"{ns.ADMIN}#end-user-session", "End sessions of user", roles=OPERATORS)
    async def end_user_session(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.5: a full address ends one session."""
        if call.form is None:
            return ask("End sessions", ACCOUNTS)
        ended = await self.administration.end_sessions(call.account, accounts_of(call))
        return Done(f"Sessions ended: {ended}")

    @command(f"{ns.ADMIN}#change-user-password", "Change password of user", roles=OPERATORS)
    async def change_user_password(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.7."""
        if call.form is None:
            return ask("Change a password", ACCOUNT, _PASSWORD)
        await self.administration.change_password(call.account, account_of(call), call.value("password"))
        return Done("The password was changed")


@feature(xep=133, version="1.3.1")
class AccountQueries:
    """Tells what is known of accounts, and who is an admin."""

    administration: Administration
    invites: Invites

    @command(f"{ns.ADMIN}#get-user-roster", "Get roster of user", roles=ADMINS)
    async def get_user_roster(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.8; one roster per account, in the order of the addresses."""
        if call.form is None:
            return ask("Get contact lists", ACCOUNTS)
        jids = accounts_of(call)
        rosters = [await self.administration.roster(call.account, jid) for jid in jids]
        form = result(forms.Field("accountjids", [jid.bare for jid in jids], "jid-multi"))
        form.extend(element(ns.ROSTER, "query", None, *map(item, contacts)) for contacts in rosters)
        return Done(form=form)

    @command(f"{ns.ADMIN}#get-user-lastlogin", "Get last login of user", roles=OPERATORS)
    async def get_user_lastlogin(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.9; a time per account, in the order of the addresses, empty for never."""
        if call.form is None:
            return ask("Get times of last login", ACCOUNTS)
        times = await self.administration.last_logins(call.account, accounts_of(call))
        return found(
            forms.Field("accountjids", list(times), "jid-multi"),
            forms.Field("lastlogin", ["" if at is None else moment(at) for at in times.values()], "text-multi"),
        )

    @command(f"{ns.ADMIN}#user-stats", "Get statistics of user", roles=OPERATORS)
    async def user_stats(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.10: size of the roster, and resources with a session."""
        if call.form is None:
            return ask("Get numbers about an account", ACCOUNT)
        jid = account_of(call)
        size = await self.administration.contact_count(call.account, jid)
        sessions = await self.administration.sessions_of(call.account, jid)
        return found(
            forms.Field("rostersize", (str(size),), "text-single", "Contacts"),
            forms.Field("onlineresources", [one.jid.resource for one in sessions], "text-multi", "Sessions"),
        )

    @command(f"{ns.ADMIN}#edit-admin", "Edit list of admins", roles=ADMINS)
    async def edit_admin(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.29: who is left out becomes a member; oneself cannot be left out."""
        if call.form is None:
            admins = await self.administration.admins(call.domain)
            return ask("Admins", forms.Field("adminjids", admins, "jid-multi", "Addresses of admins"))
        await self.administration.set_admins(call.account, call.domain, addresses_of(call, "adminjids"))
        return Done("Changed")

    @command(f"{ns.PARLEY_COMMANDS}#reset-password", "Make password reset link", roles=OPERATORS)
    async def reset_password(self, call: Call) -> Ask | Done:
        """A link with which the holder of an account sets a new password."""
        if call.form is None:
            return ask("Make a link that sets a password", ACCOUNT)
        made = await self.invites.create_reset(call.account, account_of(call).bare)
        return found(
            forms.Field("landing-url", (made.url,), "text-single", "Page"),
            forms.Field("expire", (moment(made.expires),), "text-single", "Valid until"),
        )
