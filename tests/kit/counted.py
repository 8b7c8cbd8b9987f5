"""A raw client that counts as XEP-0198 does, for tests that follow single messages."""

import asyncio
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import MESSAGE, STANZAS
from homeserver.protocol.xml import escape_attribute, escape_text
from tests.kit.raw import RawClient, StreamClosed
from tests.kit.server import Account, Endpoint


class CountedClient:
    """One connection with stream management. ``messages`` are all received ones, oldest first.

    It acknowledges only when told to (`acknowledge`), and never answers ``<r/>`` by itself.
    """

    def __init__(self, endpoint: Endpoint, account: Account) -> None:
        self.raw = RawClient(endpoint)
        self.account = account
        self.messages: list[Element] = []
        self.session = ""
        self.received = 0
        self.sent = 0
        self.handled = 0

    async def begin(self, *, presence: bool = True) -> "CountedClient":
        """Log in, enable resumption, become available; itself."""
        await self.raw.login(self.account)
        self.raw.write(f"<enable xmlns='{ns.STREAM_MANAGEMENT}' resume='true'/>")
        self.session = (await self._nonza("enabled")).get("id", "")
        if presence:
            self.send("<presence/>")
            await self.settled()
        return self

    async def resume(self, before: "CountedClient") -> bool:
        """Take over the session of an earlier connection; False if the server refuses."""
        await self.raw.open()
        await self.raw.authenticate(self.account)
        self.raw.write(f"<resume xmlns='{ns.STREAM_MANAGEMENT}' h='{before.received}' previd='{before.session}'/>")
        answer = await self._nonza("resumed", "failed")
        if answer.tag.endswith("failed"):
            return False
        self.session = before.session
        self.received, self.sent, self.handled = before.received, before.sent, int(answer.get("h", "0"))
        return True

    def send(self, stanza: str) -> None:
        """One stanza."""
        self.sent += 1
        self.raw.write(stanza)

    def say(self, to: str, text: str, identity: str) -> None:
        """A chat message with ``identity`` as id and origin-id."""
        name = escape_attribute(identity)
        self.send(
            f"<message type='chat' to='{escape_attribute(to)}' id='{name}'><body>{escape_text(text)}</body>"
            f"<origin-id xmlns='{ns.STANZA_ID}' id='{name}'/></message>"
        )

    def acknowledge(self) -> None:
        """``<a/>`` for all that was received."""
        self.raw.write(f"<a xmlns='{ns.STREAM_MANAGEMENT}' h='{self.received}'/>")

    async def settled(self, timeout: float = 15.0) -> None:
        """Until the server has acknowledged all that was sent; TimeoutError otherwise."""
        self.raw.write(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>")
        async with asyncio.timeout(timeout):
            while self.handled < self.sent:
                self.handled = max(self.handled, int((await self._nonza("a")).get("h", "0")))

    async def heard(self, count: int, timeout: float = 10.0) -> list[Element]:
        """Until ``count`` messages were received in all; all of them."""
        async with asyncio.timeout(timeout):
            while len(self.messages) < count:
                self._take(await self.raw.next_forever())
        return self.messages

    async def quiet(self) -> list[Element]:
        """All messages that the server had for us before it answers a ping."""
        self.send(f"<iq type='get' id='quiet{self.sent}'><ping xmlns='{ns.PING}'/></iq>")
        wanted = f"quiet{self.sent - 1}"
        async with asyncio.timeout(10):
            while True:
                found = await self.raw.next_forever()
                self._take(found)
                if found.get("id") == wanted:
                    return self.messages

    def texts(self) -> list[str]:
        """The bodies of all received messages."""
        return [message.findtext(f"{{{ns.CLIENT}}}body") or "" for message in self.messages]

    def _take(self, found: Element) -> None:
        if found.tag in STANZAS:
            self.received += 1
            if found.tag == MESSAGE:
                self.messages.append(found)

    async def _nonza(self, *names: str) -> Element:
        wanted = {f"{{{ns.STREAM_MANAGEMENT}}}{name}" for name in names}
        while True:
            found = await self.raw.next_forever()
            if found.tag in wanted:
                return found
            if found.tag.endswith("}failed"):
                raise StreamClosed(text="stream management was refused")
            self._take(found)

    async def archive(self, page: int = 100) -> list[tuple[str, str]]:
        """The whole own archive, oldest first: (archive id, text)."""
        entries: list[tuple[str, str]] = []
        while True:
            after = f"<after>{entries[-1][0]}</after>" if entries else ""
            name = f"archive{self.sent}"
            self.send(
                f"<iq type='set' id='{name}'><query xmlns='{ns.ARCHIVE}'><set xmlns='{ns.RESULT_SET}'>"
                f"<max>{page}</max>{after}</set></query></iq>"
            )
            found = await self.raw.next()
            while found.get("id") != name:
                self.received += found.tag in STANZAS
                result = found.find(f"{{{ns.ARCHIVE}}}result")
                if result is not None:
                    text = result.findtext(f"{{{ns.FORWARD}}}forwarded/{MESSAGE}/{{{ns.CLIENT}}}body")
                    entries.append((result.get("id", ""), text or ""))
                elif found.tag == MESSAGE:
                    self.messages.append(found)
                found = await self.raw.next()
            self.received += 1
            fin = found.find(f"{{{ns.ARCHIVE}}}fin")
            if fin is None:
                raise RuntimeError("no archive")
            if fin.get("complete") in ("true", "1"):
                return entries
