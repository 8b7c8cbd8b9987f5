"""Commands that count and list the users of a domain (XEP-0133 s4.13 to s4.22)."""

from homeserver.domain.accounts import AccountState
from homeserver.protocol import namespaces as ns
from homeserver.services.administration import Administration
from homeserver.xmpp.administration_forms import MAX_ITEMS, ask, counted, listed, most_of
from homeserver.xmpp.commands import OPERATORS, Ask, Call, Done, command
from homeserver.xmpp.feature import feature


@feature(xep=133, version="1.3.1")
class UserNumbers:
    """Counts."""

    administration: Administration

    @command(f"{ns.ADMIN}#get-registered-users-num", "Get number of registered users", roles=OPERATORS)
    async def registered(self, call: Call) -> Done:
        """XEP-0133 s4.13."""
        number = await self.administration.count(call.account, call.domain)
        return counted("registeredusersnum", "Registered users", number)

    @command(f"{ns.ADMIN}#get-disabled-users-num", "Get number of disabled users", roles=OPERATORS)
    async def disabled(self, call: Call) -> Done:
        """XEP-0133 s4.14."""
        number = await self.administration.count(call.account, call.domain, AccountState.DISABLED)
        return counted("disabledusersnum", "Disabled users", number)

    @command(f"{ns.ADMIN}#get-online-users-num", "Get number of online users", roles=OPERATORS)
    async def online(self, call: Call) -> Done:
        """XEP-0133 s4.15: users with a session."""
        there = self.administration.attendance(call.account, call.domain)
        return counted("onlineusersnum", "Online users", len(there.active) + len(there.idle))

    @command(f"{ns.ADMIN}#get-active-users-num", "Get number of active users", roles=OPERATORS)
    async def active(self, call: Call) -> Done:
        """XEP-0133 s4.16: online users who are connected, available and not away."""
        there = self.administration.attendance(call.account, call.domain)
        return counted("activeusersnum", "Active users", len(there.active))

    @command(f"{ns.ADMIN}#get-idle-users-num", "Get number of idle users", roles=OPERATORS)
    async def idle(self, call: Call) -> Done:
        """XEP-0133 s4.17: online users who are not active."""
        there = self.administration.attendance(call.account, call.domain)
        return counted("idleusersnum", "Idle users", len(there.idle))


@feature(xep=133, version="1.3.1")
class UserLists:
    """Lists addresses, up to a number that is asked for."""

    administration: Administration

    @command(f"{ns.ADMIN}#get-registered-users-list", "List registered users", roles=OPERATORS)
    async def registered(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.18."""
        if call.form is None:
            return ask("Registered users", MAX_ITEMS)
        most = most_of(call)
        users = await self.administration.listing(call.account, call.domain, most + 1)
        return listed("registereduserjids", "Registered users", users, most)

    @command(f"{ns.ADMIN}#get-disabled-users-list", "List disabled users", roles=OPERATORS)
    async def disabled(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.19."""
        if call.form is None:
            return ask("Disabled users", MAX_ITEMS)
        most = most_of(call)
        users = await self.administration.listing(call.account, call.domain, most + 1, AccountState.DISABLED)
        return listed("disableduserjids", "Disabled users", users, most)

    @command(f"{ns.ADMIN}#get-online-users-list", "List online users", roles=OPERATORS)
    async def online(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.20."""
        if call.form is None:
            return ask("Online users", MAX_ITEMS)
        there = self.administration.attendance(call.account, call.domain)
        return listed("onlineuserjids", "Online users", sorted(there.active + there.idle), most_of(call))

    @command(f"{ns.ADMIN}#get-active-users", "List active users", roles=OPERATORS)
    async def active(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.21."""
        if call.form is None:
            return ask("Active users", MAX_ITEMS)
        there = self.administration.attendance(call.account, call.domain)
        return listed("activeuserjids", "Active users", there.active, most_of(call))

    @command(f"{ns.ADMIN}#get-idle-users", "List idle users", roles=OPERATORS)
    async def idle(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.22."""
        if call.form is None:
            return ask("Idle users", MAX_ITEMS)
        there = self.administration.attendance(call.account, call.domain)
        return listed("idleuserjids", "Idle users", there.idle, most_of(call))
