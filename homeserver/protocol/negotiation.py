"""A client stream from its header to a proven account: header, STARTTLS, registration, SASL (RFC 6120 s4-s6, XEP-0388).

Lives only until a resource is bound; `binding.py` has the second half. Actions are named in `stream.TABLE`.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from homeserver.protocol import fast, features, upgrade
from homeserver.protocol import namespaces as ns
from homeserver.protocol.binding import Binding
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import STREAM_TAG
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.login_request import LoginRequest, decoded, login_request
from homeserver.protocol.parser import Item, StreamHeader
from homeserver.protocol.sasl import (
    Answer,
    Challenge,
    Exchange,
    Offer,
    PasswordOffered,
    Proven,
    SaslFault,
    Step,
    TokensWanted,
    VerifierWanted,
    start_exchange,
)
from homeserver.protocol.stanza import IQ, LANG
from homeserver.protocol.stream import KINDS, TABLE, Kind, ProtocolMisuse, State, Stream, refusal
from homeserver.protocol.stream_events import (
    Authenticated,
    Event,
    PasswordPresented,
    PreAuthIq,
    StreamOpened,
    TlsRequested,
    TokensNeeded,
    UpgradeOffered,
    UpgradesWanted,
    VerifierNeeded,
)
from homeserver.protocol.xml import Element, escape_text, namespace_of

_VERSION: Final = re.compile(r"0*([0-9]{1,6})\.([0-9]{1,6})\Z")


class Negotiation:
    """What a stream needs before it is bound. Reports into ``events``."""

    def __init__(
        self, stream: Stream, options: StreamOptions, limits: StreamLimits, make_id: Callable[[], str]
    ) -> None:
        self._stream = stream
        self._options = options
        self._limits = limits
        self._make_id = make_id
        self.events: list[Event] = []
        self.waiting: list[Item] = []
        self.secure = False
        self.bindings: Mapping[str, bytes] = {}
        self.binding: Binding | None = None
        self._sender: JID | None = None
        self._offer = Offer(stream.domain, ())
        self._exchange: Exchange | None = None
        self._sasl2 = False
        self._request = LoginRequest()
        self._proven: Proven | None = None
        self._upgrades: upgrade.Upgrades | None = None
        self._failures = 0

    def share(self, events: list[Event]) -> None:
        """Report into ``events`` from now on."""
        self.events = events
        if self.binding is not None:
            self.binding.events = events

    def fail(self, condition: str, text: str = "") -> None:
        """End the stream; what was asked before in the same breath is void."""
        self.events[:] = [event for event in self.events if not isinstance(event, TlsRequested)]
        self.events.append(self._stream.fail(condition, text))

    def handle(self, item: Item) -> None:
        """Deal with one thing the client sent."""
        state = self._stream.state
        if isinstance(item, StreamHeader):
            if state is State.OPENING:
                self._open(item)
            else:
                self.fail("bad-format", "unexpected stream header")
            return
        assert isinstance(item, tuple)
        if state is State.BINDING:
            if len(self.waiting) >= self._limits.waiting_elements:
                self.fail("policy-violation", "too much before the resource is bound")
            else:
                self.waiting.append(item)
            return
        element = item[0]
        kind = KINDS.get(element.tag, Kind.OTHER)
        action = TABLE.get(state, {}).get(kind)
        if action is None:
            self.fail("bad-format" if state is State.OPENING else refusal(state, kind))
        elif state is State.AUTHENTICATED:
            assert self.binding is not None
            getattr(self.binding, action)(element)
        else:
            getattr(self, "_" + action)(element)

    # -- the header (RFC 6120 s4.7, s4.8)

    def _open(self, header: StreamHeader) -> None:
        stream, attributes = self._stream, header.attributes
        condition = ""
        if header.tag != STREAM_TAG or header.namespaces.get("") != ns.CLIENT:
            condition = "invalid-namespace"
            if header.namespaces.get("") != ns.CLIENT and ns.CLIENT in header.namespaces.values():
                condition = "bad-namespace-prefix"
        elif header.namespaces.get("stream") != ns.STREAM:
            condition = "bad-namespace-prefix"
        version = _VERSION.match(attributes.get("version", ""))
        if not condition and (version is None or int(version[1]) < 1):
            condition = "unsupported-version"
        domain = self._host(attributes.get("to"))
        account = self.binding.account if self.binding is not None else None
        if not condition and (domain is None or (account is not None and account.domain != domain)):
            condition = "host-unknown"
        stream.domain = domain or self._options.default_domain
        try:
            sender = JID.parse(attributes["from"]).to_bare() if "from" in attributes else None
        except InvalidJID:
            sender = None
            condition = condition or "invalid-from"
        if not condition and sender is not None and (sender.domain != domain or account not in (None, sender)):
            condition = "invalid-from"
        stream.open(self._make_id(), str(sender) if sender is not None and not condition else "")
        if condition:
            self.fail(condition)
            return
        self._sender = sender
        self.events.append(StreamOpened(stream.domain, sender, attributes.get(LANG, "")))
        if self.binding is not None:
            stream.state = State.AUTHENTICATED
            stream.write_features(features.after_login(self._options, self._limits, is_bound=False))
            return
        stream.state = State.NEGOTIATING
        mechanisms = features.offered_mechanisms(self._options, self.secure, self.bindings)
        tokens = fast.offered_tokens(frozenset(self.bindings)) if mechanisms and self._options.tokens else ()
        self._offer = Offer(stream.domain, mechanisms, self.bindings, self._options.downgrade_protection, tokens)
        stream.write_features(features.before_login(self._options, self._limits, self.secure, self._offer))

    def _host(self, to: str | None) -> str | None:
        """The hosted domain that ``to`` names; a client that names none gets the only one, if there is only one."""
        domains = self._options.domains
        if to is None:
            return next(iter(domains)) if len(domains) == 1 else None
        try:
            jid = JID.parse(to)
        except InvalidJID:
            return None
        return jid.domain if jid.domain in domains and str(jid) == jid.domain else None

    # -- TLS (RFC 6120 s5)

    def _starttls(self, _element: Element) -> None:
        if self.secure or not self._options.starttls:
            self._stream.write(f"<failure xmlns='{ns.TLS}'/>")
            self.fail("policy-violation", "TLS is not on offer")
            return
        self._stream.state = State.SECURING
        self.events.append(TlsRequested())

    def start_tls(self) -> None:
        """Tell the client to begin the handshake."""
        self._demand(State.SECURING)
        self._stream.write(f"<proceed xmlns='{ns.TLS}'/>")

    def tls_refused(self) -> None:
        """TLS cannot be had now (RFC 6120 s5.4.2.2)."""
        self._demand(State.SECURING)
        self._stream.write(f"<failure xmlns='{ns.TLS}'/>")
        self._stream.end()
        self._stream.state = State.CLOSED

    # -- before login

    def _early(self, element: Element) -> None:
        """Only registration may come before login (XEP-0077 s3.1)."""
        may_ask = self._options.registration or self._options.invitations
        if element.tag == IQ and may_ask and self._offer.mechanisms:
            kind = element.get("type")
            if kind in ("get", "set") and len(element) == 1 and element[0].tag in features.PRE_LOGIN_PAYLOADS:
                self.events.append(PreAuthIq(element, self._stream.domain))
                return
        self.fail("not-authorized")

    # -- SASL (RFC 6120 s6, XEP-0388)

    def _auth(self, element: Element) -> None:
        self._sasl2 = namespace_of(element) == ns.SASL2
        self._request = LoginRequest()
        try:
            self._request = login_request(element, self._sasl2, self._offer, self._options)
            self._exchange = start_exchange(self._request.mechanism, self._offer, self._make_id())
            self._take(self._exchange.respond(self._request.initial))
        except SaslFault as fault:
            self._refuse(fault.condition, fault.text)

    def _respond(self, element: Element) -> None:
        if (namespace_of(element) == ns.SASL2) is not self._sasl2:
            self.fail("policy-violation", "mixed SASL profiles")
            return
        try:
            assert self._exchange is not None
            self._take(self._exchange.respond(decoded((element.text or "").strip())))
        except SaslFault as fault:
            self._refuse(fault.condition, fault.text)

    def _abort(self, _element: Element) -> None:
        self._refuse("aborted")

    def _take(self, step: Step) -> None:
        stream = self._stream
        if isinstance(step, Challenge):
            text = base64.b64encode(step.data).decode()
            stream.write(f"<challenge xmlns='{self._profile}'>{text}</challenge>")
            stream.state = State.AUTHENTICATING
            return
        stream.state = State.JUDGING
        if isinstance(step, VerifierWanted):
            self._check_sender(step.username)
            self.events.append(VerifierNeeded(step.username, stream.domain, step.hash_name))
        elif isinstance(step, PasswordOffered):
            self._check_sender(step.username)
            self.events.append(PasswordPresented(step.username, stream.domain, step.password))
        elif isinstance(step, TokensWanted):
            self._check_sender(step.username)
            request = self._request
            self.events.append(TokensNeeded(step.username, stream.domain, request.mechanism, request.client))
        else:
            self._proven = step
            if self._request.wanted_upgrades:
                self.events.append(UpgradesWanted(JID(step.username, stream.domain), self._request.wanted_upgrades))
            else:
                self._authenticated()

    def _authenticated(self) -> None:
        proven = self._proven
        assert proven is not None
        request = self._request
        use = replace(request.use, token=proven.token) if request.use is not None and proven.token is not None else None
        account = JID(proven.username, self._stream.domain)
        self.events.append(
            Authenticated(account, request.mechanism, request.user_agent, proven.is_bound, use, request.wanted_token)
        )

    def _check_sender(self, username: str) -> None:
        """With SASL2 the account of the stream header must be the one that logs in (XEP-0388 s2.3)."""
        if self._sasl2 and self._sender is not None and self._sender != JID(username, self._stream.domain):
            raise SaslFault("invalid-authzid", "stream header names another account")

    @property
    def _profile(self) -> str:
        return ns.SASL2 if self._sasl2 else ns.SASL

    # -- tasks (XEP-0388 s2.5, XEP-0480)

    def _next_task(self, element: Element) -> None:
        assert self._upgrades is not None
        try:
            self._stream.write(self._upgrades.begin(element))
        except SaslFault as fault:
            self._refuse(fault.condition, fault.text)

    def _task_data(self, element: Element) -> None:
        assert self._upgrades is not None
        assert self._proven is not None
        try:
            hash_name, verifier = self._upgrades.finish(element)
        except SaslFault as fault:
            self._refuse(fault.condition, fault.text)
            return
        self._stream.state = State.JUDGING
        self.events.append(UpgradeOffered(JID(self._proven.username, self._stream.domain), hash_name, verifier))

    def upgrades(self, salts: Sequence[upgrade.Salt]) -> None:
        """The verifiers that the account lacks, with what the client derives them from; maybe none."""
        self._demand(State.JUDGING)
        if self._proven is None or self._upgrades is not None:
            raise ProtocolMisuse("no upgrade was asked for")
        if not salts:
            self._authenticated()
            return
        self._upgrades = upgrade.Upgrades(salts)
        self._go_on(self._last_word())

    def upgraded(self) -> None:
        """The account has the verifier that was offered."""
        self._demand(State.JUDGING)
        if self._upgrades is None:
            raise ProtocolMisuse("no upgrade was offered")
        self._go_on("")

    def _go_on(self, data: str) -> None:
        """The next task, or the end of them."""
        assert self._upgrades is not None
        assert self._proven is not None
        if self._upgrades.is_done:
            self._authenticated()
            return
        self._stream.write(self._upgrades.announce(data))
        if data:
            self._proven = replace(self._proven, data=None)
        self._stream.state = State.TASKING

    def _last_word(self) -> str:
        proven = self._proven
        return "" if proven is None or proven.data is None else base64.b64encode(proven.data).decode()

    def _refuse(self, condition: str, text: str = "") -> None:
        """End this attempt; after too many the stream. There is no other after ``<continue/>`` (XEP-0388 s2.5)."""
        is_over = self._upgrades is not None
        self._upgrades = None
        self._exchange = None
        self._proven = None
        said = f"<text xmlns='{self._profile}' xml:lang='en'>{escape_text(text)}</text>" if text else ""
        self._stream.write(f"<failure xmlns='{self._profile}'><{condition} xmlns='{ns.SASL}'/>{said}</failure>")
        self._stream.state = State.NEGOTIATING
        self._failures += 1
        if is_over or self._failures >= self._limits.login_attempts:
            self.fail("policy-violation", "a task failed" if is_over else "too many failed logins")

    # -- answers of the application

    def answer(self, found: Answer) -> None:
        """Go on with the exchange."""
        self._demand(State.JUDGING)
        if self._exchange is None or self._proven is not None:
            raise ProtocolMisuse("nothing was asked")
        try:
            self._take(self._exchange.answer(found))
        except SaslFault as fault:
            self._refuse(fault.condition, fault.text)

    def accept(self, issued: fast.IssuedToken | None = None) -> None:
        """Let the proven account in; ``issued`` is a token for its client."""
        self._demand(State.JUDGING)
        proven = self._proven
        if proven is None:
            raise ProtocolMisuse("nobody is authenticated")
        account = JID(proven.username, self._stream.domain)
        self._stream.framing.limits = self._limits.after_login
        data = self._last_word()
        self._exchange = None
        self._proven = None
        self.binding = Binding(self._stream, self._options, self._limits, account, self.events)
        if self._sasl2:
            self.binding.begin(data, self._request.inline, self._request.user_agent, fast.token_element(issued))
            return
        self._stream.write(f"<success xmlns='{ns.SASL}'>{data}</success>" if data else f"<success xmlns='{ns.SASL}'/>")
        self._stream.framing.restart()
        self._stream.state = State.OPENING

    def reject(self, condition: str, text: str = "") -> None:
        """Keep the proven account out: ``account-disabled``, ``temporary-auth-failure``, ``not-authorized``..."""
        self._demand(State.JUDGING)
        self._refuse(condition, text)

    def _demand(self, state: State) -> None:
        if self._stream.state is not state:
            raise ProtocolMisuse(f"command belongs to {state.name}, stream is {self._stream.state.name}")
