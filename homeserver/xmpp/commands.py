"""Ad-hoc commands (XEP-0050): what may be done here by filling in forms.

A command is a method of a feature, marked with ``@command``. It is called once for every step: first without a form, then
with what the user filled in. Who may run it is declared with it, judged here, and decides what service discovery shows.
"""

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from homeserver.domain.accounts import Account, Role
from homeserver.domain.errors import BadRequest, DomainError, FeatureNotImplemented, Forbidden, NotAllowed, NotFound
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element
from homeserver.services.accounts import Accounts
from homeserver.services.clock import Clock
from homeserver.xmpp.catalogue import Catalogue, Identity
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

MARK: Final = "__command__"
EVERY_ROLE: Final = frozenset(Role)
ADMINS: Final = frozenset((Role.ADMIN,))
OPERATORS: Final = frozenset((Role.ADMIN, Role.OPERATOR))
MEMBERS: Final = EVERY_ROLE - {Role.GUEST}
LIFETIME: Final = 600.0
"""Seconds until an unfinished command is forgotten."""
MAX_OPEN: Final = 5_000
MAX_OPEN_OF_ACCOUNT: Final = 20
_ACTIONS: Final = frozenset(("execute", "cancel", "prev", "next", "complete"))
_FINAL: Final = ("complete",)

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Command:
    """A declared command: its node and name (XEP-0050 s2.2), who may run it."""

    node: str
    name: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Ask:
    """The next step is a form. ``actions`` are allowed besides cancel; the last is the default (XEP-0050 s3.4)."""

    form: Element
    actions: tuple[str, ...] = _FINAL


@dataclass(frozen=True, slots=True)
class Done:
    """It is finished. A ``note`` of the kind ``error`` says that it failed (XEP-0050 s3.6)."""

    note: str = ""
    kind: str = "info"
    form: Element | None = None


@dataclass(slots=True)
class Call:
    """One step of a command: who asks, what was filled in (None at the first), what earlier steps left in ``data``."""

    account: Account
    request: IqRequest
    form: forms.Form | None
    action: str
    data: dict[str, Any]

    @property
    def domain(self) -> str:
        """The domain that was asked."""
        to = self.request.stanza.to
        return self.account.jid.domain if to is None else to.domain

    def value(self, var: str) -> str:
        """A field that has to be filled in. Raises `BadRequest` with bad-payload."""
        found = "" if self.form is None else self.form.first(var)
        if not found:
            raise bad("bad-payload", f"{var} is missing")
        return found


Step = Callable[[Call], Awaitable[Ask | Done]]


def command(node: str, name: str, *, roles: frozenset[Role] = EVERY_ROLE) -> Callable[[Method], Method]:
    """Mark a coroutine method ``(call: Call) -> Ask | Done`` as a command."""

    def mark(method: Method) -> Method:
        setattr(method, MARK, Command(node, name, roles))
        return method

    return mark


def bad(condition: str, text: str = "") -> BadRequest:
    """A refusal of XEP-0050 s4.4, such as ``bad-payload``."""
    return BadRequest(text, element(ns.COMMANDS, condition))


@dataclass(slots=True)
class _Open:
    """A command that waits for its next step."""

    account: int
    command: Command
    expires: float
    actions: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)


class CommandBook:
    """All commands, and those under way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: dict[str, tuple[Command, Step]] = {}
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def collect(self, features: Iterable[object]) -> None:
        """Take the commands of built features. Raises ValueError where two have one node."""
        for built in features:
            for name in dir(type(built)):
                found = getattr(getattr(type(built), name, None), MARK, None)
                if found is None:
                    continue
                if found.node in self._steps:
                    raise ValueError(f"two commands have the node {found.node}")
                self._steps[found.node] = (found, getattr(built, name))

    def of(self, account: Account | None) -> list[Command]:
        """What an account may run, by node; nothing without one."""
        if account is None:
            return []
        return [known for _, (known, _) in sorted(self._steps.items()) if account.role in known.roles]

    def find(self, node: str) -> tuple[Command, Step]:
        """A command and its method. Raises `NotFound`, `FeatureNotImplemented` for one of XEP-0133 (s5)."""
        known = self._steps.get(node)
        if known is None:
            if node.startswith(f"{ns.ADMIN}#"):
                raise FeatureNotImplemented("This command is not offered")
            raise NotFound("There is no such command")
        return known

    def resume(self, session: str, account: Account, known: Command) -> _Open:
        """A command under way, which its next step takes out. Raises `NotAllowed` for one that has ended, or is
        somebody else's."""
        now = self._clock.monotonic()
        found = self._open.get(session)
        if found is None or found.account != account.id or found.command is not known or found.expires < now:
            raise NotAllowed("This command has ended", element(ns.COMMANDS, "session-expired"))
        del self._open[session]
        return found

    def keep(self, session: str, account: Account, known: Command, asked: Ask, data: dict[str, Any]) -> None:
        """Let a command wait for its next step. What an account left open longest is forgotten for it."""
        own = [id_ for id_, one in self._open.items() if one.account == account.id]
        for id_ in own[: max(0, len(own) - MAX_OPEN_OF_ACCOUNT + 1)]:
            del self._open[id_]
        while len(self._open) >= MAX_OPEN:
            self._open.popitem(last=False)
        self._open[session] = _Open(account.id, known, self._clock.monotonic() + LIFETIME, asked.actions, data)


@feature(xep=50, version="1.3.0", disco=(ns.COMMANDS,))
class Commands:
    """Runs commands, for accounts of this server."""

    book: CommandBook
    accounts: Accounts
    catalogue: Catalogue

    def __post_init__(self) -> None:
        self.catalogue.item_nodes.append(self._items)
        self.catalogue.info_nodes.append(self._info)

    @on_iq("set", ns.COMMANDS, "command", to=Addressee.DOMAIN)
    async def run(self, request: IqRequest) -> Element | None:
        """XEP-0050 s2.4."""
        payload = request.payload
        known, step = self.book.find(payload.get("node", ""))
        account = await self._asker(request)
        if account is None or account.role not in known.roles:
            raise Forbidden(kind="cancel")
        action = payload.get("action", "execute")
        if action not in _ACTIONS:
            raise bad("malformed-action")
        session = payload.get("sessionid", "")
        data: dict[str, Any] = {}
        form = None
        if session:
            waiting = self.book.resume(session, account, known)
            if action == "cancel":
                return _answer(known, session, "canceled")
            action = waiting.actions[-1] if action == "execute" else action
            if action not in waiting.actions:
                self.book.keep(session, account, known, Ask(payload, waiting.actions), waiting.data)
                raise bad("bad-action")
            data, form = waiting.data, _form(payload)
        elif action not in ("execute", "complete", "next"):
            raise bad("bad-sessionid" if action == "cancel" else "bad-action")
        call = Call(account, request, form, action, data)
        try:
            outcome = await step(call)
        except DomainError as refusal:
            if session:  # what was filled in can be corrected
                self.book.keep(session, account, known, Ask(payload, waiting.actions), data)
            if isinstance(refusal, BadRequest) and refusal.application is None:
                refusal.application = element(ns.COMMANDS, "bad-payload")
            raise
        return self._render(known, call, outcome, session or secrets.token_urlsafe(16))

    def _render(self, known: Command, call: Call, outcome: Ask | Done, session: str) -> Element:
        if isinstance(outcome, Ask):
            self.book.keep(session, call.account, known, outcome, call.data)
            made = _answer(known, session, "executing")
            actions = element(ns.COMMANDS, "actions", {"execute": outcome.actions[-1]})
            actions.extend(
                element(ns.COMMANDS, name) for name in ("prev", "next", "complete") if name in outcome.actions
            )
            made.append(actions)
            made.append(outcome.form)
            return made
        made = _answer(known, session, "completed")
        if outcome.form is not None:
            made.append(outcome.form)
        if outcome.note:
            made.append(element(ns.COMMANDS, "note", {"type": outcome.kind}, outcome.note))
        return made

    async def _asker(self, request: IqRequest) -> Account | None:
        """The asker's account as it is now; None for somebody from elsewhere, who may run nothing here."""
        if request.session is None:
            return None
        return await self.accounts.find(request.session.jid.bare)

    async def _items(self, request: IqRequest, node: str) -> Element | None:
        if node != ns.COMMANDS or request.addressee is not Addressee.DOMAIN:
            return None
        account = await self._asker(request)
        made = element(ns.DISCO_ITEMS, "query")
        to = request.stanza.to
        jid = str(request.sender.to_bare() if to is None else to)
        for known in self.book.of(account):
            made.append(element(ns.DISCO_ITEMS, "item", {"jid": jid, "node": known.node, "name": known.name}))
        return made

    async def _info(self, request: IqRequest, node: str) -> Element | None:
        if request.addressee is not Addressee.DOMAIN:
            return None
        if node == ns.COMMANDS:
            return _described(Identity("automation", "command-list", "Commands"))
        account = await self._asker(request)
        for known in self.book.of(account):
            if known.node == node:
                return _described(Identity("automation", "command-node", known.name))
        return None


def _described(identity: Identity) -> Element:
    made = element(ns.DISCO_INFO, "query", None, identity.to_element())
    made.extend(element(ns.DISCO_INFO, "feature", {"var": name}) for name in (ns.COMMANDS, ns.DATA_FORM))
    return made


def _answer(known: Command, session: str, status: str) -> Element:
    return element(ns.COMMANDS, "command", {"node": known.node, "sessionid": session, "status": status})


def _form(payload: Element) -> forms.Form:
    """What was filled in; nothing at all is an empty form."""
    try:
        return forms.find(payload) or forms.Form("submit", {})
    except forms.InvalidForm as error:
        raise bad("bad-payload", str(error)) from error
