"""What staff says to everybody, over JSON: announcements, and notices that are shown at login."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from client_api.http.auth import Domain, Id, time_text
from client_api.http.endpoint import endpoint
from client_api.http.invites import RoleName
from homeserver.domain.accounts import Role
from homeserver.domain.errors import Forbidden, NotAcceptable, NotFound
from homeserver.domain.notices import MAX_TEXT, Announcement, Notice, NoticeKind
from homeserver.services.announcements import Announcements
from homeserver.services.notices import Notices
from homeserver.services.roles import Roles
from homeserver.services.tokens import Caller

Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class AnnouncementRequest(Struct, forbid_unknown_fields=True):
    """``to`` is all accounts (it waits for who is away; for admins), those that are online now, or every account with a
    role. Without ``domain`` those of every domain; each is told by its own."""

    text: Text
    to: Literal["all", "online"] | RoleName = "all"
    domain: Domain | None = None


class AnnouncementInfo(Struct):
    """An announcement and how many accounts were sent it; ``finished`` is whether that was all. Without ``id`` it was
    for accounts that are online, and is not kept."""

    id: Id | None
    to: str
    domain: str | None
    text: str
    told: int
    finished: bool
    created_at: str | None


class AnnouncementList(Struct):
    """The newest announcements, newest first."""

    announcements: list[AnnouncementInfo]


class NoticeText(Struct, forbid_unknown_fields=True):
    """``again`` shows it also to those who saw the one before."""

    text: Text
    again: bool = True


class NoticeInfo(Struct):
    """A notice of a domain: ``motd`` is shown once to everybody, ``welcome`` to accounts made since it was set."""

    domain: str
    kind: str
    text: str
    since: str


class AnnouncementEndpoints:
    """Announcements are for admins, those to accounts that are online for operators too; notices are for admins."""

    def __init__(self, announcements: Announcements, notices: Notices, roles: Roles, domains: tuple[str, ...]) -> None:
        self._announcements = announcements
        self._notices = notices
        self._roles = roles
        self._domains = domains

    @endpoint(
        "POST",
        "/v1/admin/announcements",
        body=AnnouncementRequest,
        returns=AnnouncementInfo,
        status=201,
        errors=(Forbidden, NotAcceptable, NotFound),
    )
    async def announce(self, caller: Caller, body: AnnouncementRequest) -> AnnouncementInfo:
        """Send a message to many accounts; it goes on in the background, also after a restart."""
        domain = None if body.domain is None else self._served(body.domain)
        if body.to == "online":
            self._roles.demand_staff(caller.account)
            told = await self._announcements.tell_online(body.text, domain)
            return AnnouncementInfo(None, body.to, domain, body.text.strip(), told, True, None)
        self._roles.demand_admin(caller.account)
        role = None if body.to == "all" else Role(body.to)
        return _announcement(await self._announcements.create(caller.account, body.text, domain, role))

    @endpoint("GET", "/v1/admin/announcements", returns=AnnouncementList, errors=(Forbidden,))
    async def list_announcements(self, caller: Caller) -> AnnouncementList:
        """The newest announcements, and how far each has come."""
        self._roles.demand_staff(caller.account)
        return AnnouncementList([_announcement(found) for found in await self._announcements.listing()])

    @endpoint("GET", "/v1/admin/notices/{domain}/{kind}", returns=NoticeInfo, errors=(Forbidden, NotFound))
    async def show_notice(self, caller: Caller, domain: str, kind: str) -> NoticeInfo:
        """The message of the day or the welcome of a domain."""
        self._roles.demand_admin(caller.account)
        found = self._notices.find(_kind(kind), self._served(domain))
        if found is None:
            raise NotFound("there is no such notice")
        return _notice(found)

    @endpoint(
        "PUT",
        "/v1/admin/notices/{domain}/{kind}",
        body=NoticeText,
        returns=NoticeInfo,
        errors=(Forbidden, NotAcceptable, NotFound),
    )
    async def set_notice(self, caller: Caller, domain: str, kind: str, body: NoticeText) -> NoticeInfo:
        """Set or correct the message of the day or the welcome of a domain."""
        self._roles.demand_admin(caller.account)
        change = self._notices.set if body.again else self._notices.edit
        return _notice(await change(_kind(kind), self._served(domain), body.text))

    @endpoint("DELETE", "/v1/admin/notices/{domain}/{kind}", status=204, errors=(Forbidden, NotFound))
    async def delete_notice(self, caller: Caller, domain: str, kind: str) -> None:
        """Show it no more."""
        self._roles.demand_admin(caller.account)
        await self._notices.drop(_kind(kind), self._served(domain))

    def _served(self, domain: str) -> str:
        domain = domain.lower()
        if domain not in self._domains:
            raise NotFound("this domain is not served here")
        return domain


def _kind(text: str) -> NoticeKind:
    try:
        return NoticeKind(text)
    except ValueError as error:
        raise NotFound("there is no such notice") from error


def _announcement(found: Announcement) -> AnnouncementInfo:
    return AnnouncementInfo(
        found.id,
        "all" if found.role is None else found.role.value,
        found.domain,
        found.text,
        found.told,
        found.finished is not None,
        time_text(found.created),
    )


def _notice(found: Notice) -> NoticeInfo:
    return NoticeInfo(found.domain, found.kind.value, found.text, time_text(found.since))
