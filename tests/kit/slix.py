"""slixmpp as a device of an account: a client that others wrote, against our server."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import slixmpp
from slixmpp import ClientXMPP

from tests.kit.server import Account, Endpoint

PLUGINS: Final = (
    "xep_0004", "xep_0012", "xep_0030", "xep_0059", "xep_0077", "xep_0085", "xep_0092", "xep_0115", "xep_0184",
    "xep_0198", "xep_0199", "xep_0202", "xep_0203", "xep_0280", "xep_0297", "xep_0313", "xep_0352", "xep_0359",
)  # fmt: skip
PATIENCE: Final = 20.0


class LoginRefused(Exception):
    """No mechanism worked."""


class Slix:
    """One device. ``messages``, ``presences`` and ``copies`` are what came, in order; `until` waits for more of it.

    ``presence`` False: it stays unavailable after login. ``plugins``: instead of `PLUGINS`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        account: Account,
        resource: str = "",
        *,
        presence: bool = True,
        carbons: bool = True,
        plugins: tuple[str, ...] = PLUGINS,
        settings: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        jid = f"{account.jid}/{resource}" if resource else account.jid
        # Tests run on several loops, one after the other.
        self.xmpp = ClientXMPP(jid, account.password)
        self.messages: list[Any] = []
        self.presences: list[Any] = []
        self.copies: list[tuple[str, Any]] = []
        self.states: list[tuple[str, str]] = []
        self.resumed = 0
        self.acked: list[Any] = []
        self._endpoint = endpoint
        self._presence = presence
        self._carbons = carbons
        self._moved = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.xmpp.ca_certs = endpoint.ca_file
        self.xmpp.enable_direct_tls = endpoint.security == "direct"
        self.xmpp.enable_starttls = endpoint.security == "starttls"
        for plugin in plugins:
            self.xmpp.register_plugin(plugin, (settings or {}).get(plugin))
        for event, handler in (
            ("session_start", self._begin),
            ("failed_all_auth", self._refused),
            ("message", self._take),
            ("message_error", self._take),
            ("chatstate", self._state),
            ("presence", self._see),
            ("carbon_sent", lambda message: self._copy("sent", message["carbon_sent"])),
            ("carbon_received", lambda message: self._copy("received", message["carbon_received"])),
            ("session_resumed", self._resume),
            ("stanza_acked", self._acked),
            ("disconnected", lambda _: self._moved.set()),
        ):
            self.xmpp.add_event_handler(event, handler)
        self.xmpp.auto_authorize = None  # subscriptions are answered by the test
        self.xmpp.auto_subscribe = False

    @property
    def jid(self) -> str:
        """The full JID once it is bound."""
        return str(self.xmpp.boundjid)

    @property
    def bodies(self) -> list[str]:
        """The texts that came, in order."""
        return [str(message["body"]) for message in self.messages if message["body"]]

    def plugin(self, number: int) -> Any:
        """A XEP's plugin."""
        return self.xmpp.plugin[f"xep_{number:04}"]

    async def __aenter__(self) -> "Slix":
        self.xmpp.connect(self._endpoint.host, self._endpoint.port)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._started
        except BaseException:
            self.cut()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.xmpp.transport is not None:
            await self.xmpp.disconnect()
        self.xmpp.cancel_connection_attempt()

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        """Wait until the condition holds; it is looked at whenever something came. TimeoutError, with what came."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError as error:
            raise TimeoutError(
                f"{self.jid} waits for {what or condition}; texts {self.bodies},"
                f" presences {[str(found) for found in self.presences[-5:]]}"
            ) from error

    async def said(self, *texts: str) -> None:
        """Wait until exactly these texts came, in this order."""
        await self.until(lambda: len(self.bodies) >= len(texts), f"{texts}")
        assert self.bodies == list(texts), [str(message) for message in self.messages]

    async def sees(self, jid: str, kind: str) -> Any:
        """Wait for a presence of that type (slixmpp's words: available, away, subscribe, ...) from an address; it is returned."""

        def found() -> list[Any]:
            return [seen for seen in self.presences if str(seen["from"]) == jid and seen["type"] == kind]

        await self.until(found, f"{kind} of {jid}")
        return found()[-1]

    def say(self, to: str, text: str, kind: str = "chat") -> str:
        """Send a message with an origin-id; its id."""
        message = self.xmpp.make_message(mto=slixmpp.JID(to), mbody=text, mtype=kind)
        message.send()
        return str(message["id"])

    async def cut_off(self) -> None:
        """Wait until the connection is gone."""
        await self.until(lambda: self.xmpp.transport is None)

    def cut(self) -> None:
        """Close the connection at once, if slixmpp has not done so itself."""
        transport = self.xmpp.transport
        if transport is not None and not transport.is_closing():
            transport.abort()

    async def settled(self) -> None:
        """The server has handled all that was sent before; with stream management it has also stored it."""
        await self.plugin(199).send_ping(slixmpp.JID(self._endpoint.domain), timeout=PATIENCE)
        if "xep_0198" in self.xmpp.plugin and self.plugin(198).enabled_out:
            self.plugin(198).request_ack()
            await self.until(lambda: not self.plugin(198).unacked_queue, "acknowledgement")

    async def history(self, peer: str | None = None, **bounds: Any) -> list[Any]:
        """The results of an archive query, oldest first (XEP-0313)."""
        with_jid = slixmpp.JID(peer) if peer is not None else None
        answer = await self.plugin(313).retrieve(with_jid=with_jid, timeout=PATIENCE, **bounds)
        return [found["mam_result"] for found in answer["mam"]["results"]]

    async def texts(self, peer: str | None = None, **bounds: Any) -> list[str]:
        """The bodies of an archive query, oldest first."""
        return [str(found["forwarded"]["stanza"]["body"]) for found in await self.history(peer, **bounds)]

    async def befriend(self, other: "Slix") -> None:
        """Subscriptions in both directions, as two people would do it."""
        for asker, answerer in ((self, other), (other, self)):
            asker.xmpp.send_presence_subscription(pto=answerer.xmpp.boundjid.bare, ptype="subscribe")
            await answerer.sees(asker.xmpp.boundjid.bare, "subscribe")
            answerer.xmpp.send_presence(pto=asker.xmpp.boundjid.bare, ptype="subscribed")
            await asker.sees(answerer.jid, "available")

    async def _begin(self, _event: object) -> None:
        if self._carbons and "xep_0280" in self.xmpp.plugin:
            await self.plugin(280).enable(timeout=PATIENCE)
        await self.xmpp.get_roster(timeout=PATIENCE)
        if self._presence:
            self.xmpp.send_presence()
        if not self._started.done():
            self._started.set_result(None)
        self._moved.set()

    def _refused(self, _event: object) -> None:
        if not self._started.done():
            self._started.set_exception(LoginRefused())

    def _take(self, message: Any) -> None:
        self.messages.append(message)
        self._moved.set()

    def _state(self, message: Any) -> None:
        self.states.append((str(message["from"]), str(message["chat_state"])))
        self._moved.set()

    def _see(self, presence: Any) -> None:
        self.presences.append(presence)
        self._moved.set()

    def _copy(self, direction: str, message: Any) -> None:
        self.copies.append((direction, message))
        self._moved.set()

    def _resume(self, _event: object) -> None:
        self.resumed += 1
        self._moved.set()

    def _acked(self, stanza: Any) -> None:
        self.acked.append(stanza)
        self._moved.set()
