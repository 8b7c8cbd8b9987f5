"""Commands with which staff speaks to everybody, and stops the server (XEP-0133 s4.23 to s4.28, s4.31)."""

from typing import Final

from homeserver.domain.accounts import Role
from homeserver.domain.errors import NotFound
from homeserver.domain.notices import NoticeKind
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.services.announcements import Announcements
from homeserver.services.notices import Notices
from homeserver.services.shutdown import Shutdown
from homeserver.xmpp.administration_forms import ask, number_of, text_of
from homeserver.xmpp.commands import ADMINS, OPERATORS, Ask, Call, Done, bad, command
from homeserver.xmpp.feature import feature

_ANNOUNCEMENT: Final = forms.Field("announcement", type="text-multi", label="Announcement", is_required=True)
_ROLE: Final = forms.Field(
    "role",
    ("",),
    "list-single",
    "To whom",
    [("", "All accounts"), *((role.value, f"Every {role.value}") for role in Role)],
)
_DELAYS: Final = ((30, "30 seconds"), (60, "1 minute"), (120, "2 minutes"), (300, "5 minutes"), (900, "15 minutes"))
_DELAY: Final = forms.Field(
    "delay",
    type="list-single",
    label="Time before",
    options=[(str(seconds), label) for seconds, label in _DELAYS],
    is_required=True,
)
_FAREWELL: Final = forms.Field("announcement", type="text-multi", label="Announcement to all who are online")


@feature(xep=133, version="1.3.1")
class AnnouncementCommands:
    """Announcements, once."""

    announcements: Announcements

    @command(f"{ns.ADMIN}#announce", "Send announcement to online users", roles=OPERATORS)
    async def announce(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.23: to users of the domain who are available now."""
        if call.form is None:
            return ask("Announcement to users who are online", _ANNOUNCEMENT)
        told = await self.announcements.tell_online(text_of(call, "announcement"), call.domain)
        return Done(f"Shown to {told} users")

    @command(f"{ns.PARLEY_COMMANDS}#announce-all", "Send announcement to all users", roles=ADMINS)
    async def announce_all(self, call: Call) -> Ask | Done:
        """To all accounts of the domain, or those with a role; it waits for who is away."""
        if call.form is None:
            return ask("Announcement to all accounts", _ANNOUNCEMENT, _ROLE)
        role = call.form.first("role")
        if role and role not in list(Role):
            raise bad("bad-payload", "there is no such role")
        made = await self.announcements.create(
            call.account, text_of(call, "announcement"), call.domain, Role(role) if role else None
        )
        return Done(f"Announcement {made.id} is being sent")


@feature(xep=133, version="1.3.1")
class NoticeCommands:
    """The message of the day and the welcome of a domain."""

    notices: Notices

    @command(f"{ns.ADMIN}#set-motd", "Set message of the day", roles=ADMINS)
    async def set_motd(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.24: shown once to everybody, at once to users who are online."""
        if call.form is None:
            return ask("Message of the day", _lines("motd", "Message of the day"))
        await self.notices.set(NoticeKind.MOTD, call.domain, text_of(call, "motd"))
        return Done("Set")

    @command(f"{ns.ADMIN}#edit-motd", "Edit message of the day", roles=ADMINS)
    async def edit_motd(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.25: who saw it is not shown it again."""
        if call.form is None:
            notice = self.notices.find(NoticeKind.MOTD, call.domain)
            if notice is None:
                raise NotFound("there is no message of the day")
            return ask("Message of the day", _lines("motd", "Message of the day", notice.text))
        await self.notices.edit(NoticeKind.MOTD, call.domain, text_of(call, "motd"))
        return Done("Changed")

    @command(f"{ns.ADMIN}#delete-motd", "Delete message of the day", roles=ADMINS)
    async def delete_motd(self, call: Call) -> Done:
        """XEP-0133 s4.26."""
        await self.notices.drop(NoticeKind.MOTD, call.domain)
        return Done("Deleted")

    @command(f"{ns.ADMIN}#set-welcome", "Set welcome message", roles=ADMINS)
    async def set_welcome(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.27: shown to accounts made from now on, when they first come online."""
        if call.form is None:
            notice = self.notices.find(NoticeKind.WELCOME, call.domain)
            return ask("Welcome", _lines("welcome", "Welcome message", "" if notice is None else notice.text))
        await self.notices.set(NoticeKind.WELCOME, call.domain, text_of(call, "welcome"))
        return Done("Set")

    @command(f"{ns.ADMIN}#delete-welcome", "Delete welcome message", roles=ADMINS)
    async def delete_welcome(self, call: Call) -> Done:
        """XEP-0133 s4.28."""
        await self.notices.drop(NoticeKind.WELCOME, call.domain)
        return Done("Deleted")


@feature(xep=133, version="1.3.1")
class ShutdownCommands:
    """Stops the server."""

    shutdown: Shutdown

    @command(f"{ns.ADMIN}#shutdown", "Shut down service", roles=ADMINS)
    async def shut_down(self, call: Call) -> Ask | Done:
        """XEP-0133 s4.31: as the service manager would stop it."""
        if call.form is None:
            return ask("Stop the server", _DELAY, _FAREWELL)
        delay = number_of(call.value("delay"), "delay")
        await self.shutdown.begin(call.account, delay, "\n".join(call.form.fields.get("announcement", [])))
        return Done(f"The server stops in {delay} seconds")

    @command(f"{ns.PARLEY_COMMANDS}#cancel-shutdown", "Call off shutdown", roles=ADMINS)
    async def cancel(self, call: Call) -> Done:
        """Takes back what the command before began."""
        self.shutdown.cancel(call.account)
        return Done("The server goes on")


def _lines(var: str, label: str, text: str = "") -> forms.Field:
    return forms.Field(var, text.split("\n") if text else (), "text-multi", label, is_required=True)
