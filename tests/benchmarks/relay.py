"""A minimal XMPP relay for the tests of the generator: it lets everybody in, keeps one archive in memory, shows
presence to all, and asks the first client with capabilities what they are.

    python -m tests.benchmarks.relay [--drop N] [--break N] [--bounce N]

It prints its port. `--drop N` swallows every Nth message, `--break N` delivers the Nth as broken XML and a change of presence
without its text, `--bounce N` answers messages from the Nth on with an error.
"""

import argparse
import asyncio
import base64
import re
import sys

_FEATURES = b"<?xml version='1.0'?><stream:stream id='1' version='1.0'><stream:features>%s</stream:features>"
_MECHANISMS = b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
_BIND = b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
_STANZA = re.compile(
    rb"<stream:stream\b[^>]*>|<auth\b[^>]*>(?P<auth>[^<]*)</auth>|<presence/>"
    rb"|(?P<shown><presence>.*?</presence>)"
    rb"|<iq\b[^>]*\bid='(?P<iq>[^']*)'[^>]*>.*?</iq>|<message to='(?P<to>[^'@]*)@[^']*'.*?</message>",
    re.DOTALL,
)
_ASK = b"<iq type='get' id='disco' from='relay'><query xmlns='http://jabber.org/protocol/disco#info' node='n'/></iq>"
_AFTER = re.compile(rb"<after>(\d+)</after>")


class Session(asyncio.Protocol):
    """One client, known by its user name once it has logged in."""

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._pending = b""
        self.user = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Handle every whole element."""
        data = self._pending + data
        end = 0
        for match in _STANZA.finditer(data):
            end = match.end()
            if match["to"] is not None:
                self._relay.route(self, match["to"], match.group())
            elif match["shown"] is not None:
                self._relay.show(self, match["shown"])
            elif match["iq"] is not None:
                self._answer(match["iq"], match.group())
            elif match["auth"] is not None:
                self._log_in(match["auth"])
            elif match.group().startswith(b"<stream"):
                self.transport.write(_FEATURES % (_BIND if self.user else _MECHANISMS))
        self._pending = data[end:]

    def _log_in(self, text: bytes) -> None:
        # PLAIN is NUL user NUL password (RFC 4616).
        self.user = base64.b64decode(text).split(b"\0")[1]
        self._relay.sessions[self.user] = self
        self.transport.write(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")

    def _answer(self, number: bytes, iq: bytes) -> None:
        after = _AFTER.search(iq)
        if after:
            first = int(after.group(1)) + 1
            for stanza in self._relay.archive[first : first + 100]:
                self.transport.write(b"<message><result><forwarded>%s</forwarded></result></message>" % stanza[:-10])
        self.transport.write(b"<iq type='result' id='%s'/>" % number)


class Relay:
    """Sessions by user, and every message that was relayed."""

    def __init__(self, drop: int, broken: int, bounce: int) -> None:
        self.sessions: dict[bytes, Session] = {}
        self.archive: list[bytes] = []
        self._drop = drop
        self._break = broken
        self._bounce = bounce
        self._count = 0
        self._asked = False

    def show(self, sender: Session, presence: bytes) -> None:
        """Give a presence to everybody else."""
        if not self._asked:
            self._asked = True
            sender.transport.write(_ASK)
        if self._break:
            presence = re.sub(rb"<status>.*</status>", b"", presence)
        for session in self.sessions.values():
            if session is not sender:
                session.transport.write(presence)

    def route(self, sender: Session, user: bytes, stanza: bytes) -> None:
        """Deliver with an archive id, or bounce, or swallow."""
        self._count += 1
        if self._bounce and self._count >= self._bounce:
            sender.transport.write(b"<message type='error'/>")
        elif not self._drop or self._count % self._drop:
            stanza_id = b"<stanza-id xmlns='urn:xmpp:sid:0' by='r' id='%d'/></message>" % len(self.archive)
            self.archive.append(stanza)
            tag = b"<message from='%s@relay.localhost/r'" % sender.user
            if self._count == self._break:
                tag += b" from='twice'"
            self.sessions[user].transport.write(tag + stanza[8:-10] + stanza_id)


async def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--drop", type=int, default=0)
    flags.add_argument("--break", type=int, default=0, dest="broken")
    flags.add_argument("--bounce", type=int, default=0)
    options = flags.parse_args(arguments)
    relay = Relay(options.drop, options.broken, options.bounce)
    server = await asyncio.get_running_loop().create_server(lambda: Session(relay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
