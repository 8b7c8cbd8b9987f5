"""What an operator may do by the command line, named by verbs.

The same verbs run in the command's own process when the server is down, and inside the server when it runs: its caches and
live sessions must know at once that an account ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from homeserver.domain.accounts import AccountState, Role
from homeserver.domain.errors import BadRequest, NotFound
from homeserver.domain.invites import InviteKind
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts
from homeserver.services.invites import Invite, Invites, Wish
from homeserver.services.outbox import Outbox

_PAGE = 500
Arguments = Mapping[str, Any]


class Operations:
    """``outbox`` is None where no server runs: the verbs of the queue need one. ``more`` are verbs of higher layers.

    Answers are values that JSON can carry. Raises `DomainError`.
    """

    def __init__(
        self,
        accounts: Accounts,
        invites: Invites,
        outbox: Outbox | None,
        more: Mapping[str, Callable[[Arguments], Awaitable[Any]]] | None = None,
    ) -> None:
        self._accounts = accounts
        self._invites = invites
        self._outbox = outbox
        self._verbs: dict[str, Callable[[Arguments], Awaitable[Any]]] = {
            "account.add": self._add,
            "account.list": self._list,
            "account.password": self._password,
            "account.disable": self._disable,
            "account.enable": self._enable,
            "account.delete": self._delete,
            "account.restore": self._restore,
            "account.devices": self._devices,
            "account.role": self._role,
            "invite.create": self._invite,
            "invite.reset": self._reset,
            "invite.list": self._invite_list,
            "invite.revoke": self._invite_revoke,
            "queue.list": self._queue_list,
            "queue.retry": self._queue_retry,
            "queue.drop": self._queue_drop,
            **(more or {}),
        }

    async def run(self, verb: str, arguments: Arguments) -> Any:
        """Do it. Raises `BadRequest` for an unknown verb or missing arguments."""
        if verb not in self._verbs:
            raise BadRequest(f"there is no operation {verb}")
        try:
            return await self._verbs[verb](arguments)
        except KeyError as error:
            raise BadRequest(f"{verb} needs {error}") from error

    async def _add(self, arguments: Arguments) -> None:
        jid = JID.parse(arguments["address"])
        role = Role(arguments["role"])
        await self._accounts.register(jid.local, jid.domain, arguments["password"], admin=True, role=role)

    async def _list(self, arguments: Arguments) -> list[dict[str, Any]]:
        found, after = [], ""
        while page := await self._accounts.listing(arguments["domain"], after, _PAGE):
            found += page
            after = page[-1].jid.bare
        return [
            {
                "address": one.jid.bare,
                "id": one.id,
                "state": one.state.name.lower() if one.ends is None else "removed",
                "role": one.role.value,
            }
            for one in found
        ]

    async def _password(self, arguments: Arguments) -> None:
        found = await self._accounts.find(arguments["address"])
        if found is None or found.state is AccountState.DELETED:
            raise NotFound("no such account")
        await self._accounts.change_password(found, arguments["password"])

    async def _disable(self, arguments: Arguments) -> None:
        await self._accounts.disable(arguments["address"])

    async def _enable(self, arguments: Arguments) -> None:
        await self._accounts.enable(arguments["address"])

    async def _delete(self, arguments: Arguments) -> None:
        await self._accounts.delete(arguments["address"])

    async def _restore(self, arguments: Arguments) -> None:
        await self._accounts.restore(arguments["address"])

    async def _devices(self, arguments: Arguments) -> list[dict[str, Any]]:
        return [
            {
                "id": one.id,
                "protocol": "json" if one.client is None else "xmpp",
                "seen": one.last_seen,
                "name": one.name,
                "software": one.software,
            }
            for one in await self._accounts.devices(arguments["address"])
        ]

    async def _role(self, arguments: Arguments) -> None:
        await self._accounts.set_role(arguments["address"], Role(arguments["role"]))

    async def _invite(self, arguments: Arguments) -> dict[str, Any]:
        """With ``inviter``, an address, in the name of that account."""
        inviter = None
        if arguments["inviter"]:
            inviter = await self._accounts.active(arguments["inviter"])
            if inviter is None:
                raise NotFound("no such account")
        kind = InviteKind(arguments["kind"]) if arguments["kind"] else None
        if kind is None and inviter is None:
            kind = InviteKind.ACCOUNT
        wish = Wish(
            kind,
            arguments["uses"],
            arguments["lifetime"],
            arguments["domain"],
            arguments["username"],
            Role(arguments["role"]),
        )
        return _made(await self._invites.create(inviter, wish))

    async def _reset(self, arguments: Arguments) -> dict[str, Any]:
        return _made(await self._invites.create_reset(None, arguments["address"]))

    async def _invite_list(self, _arguments: Arguments) -> list[dict[str, Any]]:
        return [
            {"id": one.id, "kind": one.kind.value, "domain": one.domain, "uses": one.uses, "expires": one.expires}
            for one in await self._invites.list(None)
        ]

    async def _invite_revoke(self, arguments: Arguments) -> None:
        await self._invites.revoke(None, arguments["id"])

    async def _queue_list(self, _arguments: Arguments) -> list[dict[str, Any]]:
        return [asdict(state) for state in self._queue().list()]

    async def _queue_retry(self, arguments: Arguments) -> None:
        if not self._queue().retry(arguments["domain"]):
            raise NotFound("nothing was ever sent to that domain")

    async def _queue_drop(self, arguments: Arguments) -> int:
        return await self._queue().drop(arguments["domain"])

    def _queue(self) -> Outbox:
        if self._outbox is None:
            raise NotFound("the server does not run; the queue is worked on inside it")
        return self._outbox


def _made(invite: Invite) -> dict[str, Any]:
    return {"id": invite.id, "uri": invite.uri, "url": invite.url, "expires": invite.expires}
