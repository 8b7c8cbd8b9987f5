"""``docs/administration.md``, its table of commands written from their declarations by ``python -m homeserver.xmpp.command_page``.

A test fails when it is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from homeserver.domain.accounts import Role
from homeserver.protocol import namespaces as ns
from homeserver.xmpp.commands import MARK, Command
from homeserver.xmpp.protocols import feature_classes

PAGE: Final = Path(__file__).parents[2] / "docs" / "administration.md"
_HEAD: Final = """# Administration

Admins and operators look after a server from their own chat client, by ad-hoc commands (XEP-0050, XEP-0133), or over the
[JSON API](http-api.md) below `/v1/admin`. The table is written from the declarations in the code by
`python -m homeserver.xmpp.command_page`.

## The first admin

    ./parley account role you@example.org admin

From then on admins make others with the command *Edit list of admins*, or `PUT /v1/admin/users/{jid}/role`. What a role may
do is in [operations](operations.md). Roles hold for every domain that the server serves; a command is about the domain it is
sent to. Nobody from another server runs any, and nobody changes the own account, so there is always an admin left.
Operators reach members and guests only.

Clients show commands under names like *Execute command* or *Server administration*, for the address of the domain.
Which ones a client is shown is what its account may run.

## Commands

| command | node | who |
|---|---|---|
"""
_TAIL: Final = """
`admin` stands for `ADMIN`, `parley` for `PARLEY_COMMANDS`.

- A command takes up to 200 addresses, and changes all of these accounts or, if one may not be changed, none. Lists are cut at
  1000 addresses; `GET /v1/admin/users` and `GET /v1/admin/sessions` have pages.
- *Online* has a session, also one that waits to be resumed. *Active* is connected, shows presence and is not away; the other
  ones are *idle*.
- Passwords are not stored and cannot be told. Rather than set one, send the link of *Make password reset link*.
- A restart, and changes of the domains one federates with, are for the service manager and the configuration.
- What staff does to accounts and sessions is in the log, with who did it.

## Announcements

*Send announcement to online users* shows a headline to those who are there, and to nobody later. *Send announcement to all
users*, or `POST /v1/admin/announcements`, sends a message to every account, or every one with a role; it waits for who is away, and is in
the archive. It is written down first, goes out in slices of 100 accounts beside everything else, and is taken up where it
was after a stop or a crash: nobody is left out and nobody has it twice. Disabled accounts are left out, and those for which
`archive.waiting` messages wait already. `GET /v1/admin/announcements` says how many were told.

Block lists and policies for strangers do not keep a server's own messages out. They come from the address of the domain.

## Message of the day and welcome

The message of the day is shown once to every account of the domain: at once to those who are online, to others when they come
online. To set it again shows it again, to edit it does not. The welcome is shown to accounts made since it was first set,
when they first come online. Over JSON: `/v1/admin/notices/{domain}/motd` and `/welcome`.

## Shutdown

*Shut down service* ends the process as SIGTERM does, after the time and with the announcement that are filled in; until then *Call off
shutdown* takes it back. Sessions can be resumed after the next start. With the unit in `deploy/` the server then stays down until
it is started again.
"""


def declared() -> list[Command]:
    """Every command of every feature class, by name."""
    found: list[Command] = []
    for kind in feature_classes():
        for name in dir(kind):
            mark = getattr(getattr(kind, name, None), MARK, None)
            if isinstance(mark, Command):
                found.append(mark)
    return sorted(found, key=lambda one: one.name)


def page() -> str:
    """The whole page."""
    rows = [f"| {one.name} | `{_short(one.node)}` | {_who(one.roles)} |\n" for one in declared()]
    tail = _TAIL.replace("PARLEY_COMMANDS", ns.PARLEY_COMMANDS).replace("ADMIN", ns.ADMIN)
    return _HEAD + "".join(rows) + tail


def _short(node: str) -> str:
    for prefix, short in ((ns.ADMIN, "admin"), (ns.PARLEY_COMMANDS, "parley")):
        node = node.replace(prefix, short)
    return node


def _who(roles: frozenset[Role]) -> str:
    missing = [role for role in Role if role not in roles]
    if not missing:
        return "everybody"
    if missing == [Role.GUEST]:
        return "all but guests"
    return ", ".join(f"{role.value}s" for role in Role if role in roles)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
