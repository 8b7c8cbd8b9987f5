"""A BOSH client (XEP-0124, XEP-0206) on aiohttp: one long poll at a time, every step visible."""

import asyncio
import base64
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

import aiohttp

from homeserver.protocol import namespaces as ns
from tests.kit.client_stream import ScramClient
from tests.kit.node import HOST, ParleyServer

CLIENT = f"{{{ns.CLIENT}}}"


class BoshClient:
    """One session. ``wait`` is what it asks for at the start."""

    def __init__(self, http: aiohttp.ClientSession, node: ParleyServer) -> None:
        self.http = http
        self.domain = node.domain
        self.url = f"https://{HOST}:{node.ports.https}/http-bind"
        self.rid = 1_573_741_820
        self.sid = ""
        self.inbox: deque[Element] = deque()

    def wrapper(self, content: str = "", rid: int | None = None, **attributes: str) -> str:
        """The text of one request."""
        told = {"rid": str(self.rid if rid is None else rid), **({"sid": self.sid} if self.sid else {}), **attributes}
        written = "".join(f" {name.replace('__', ':')}={quoteattr(value)}" for name, value in told.items())
        return f"<body xmlns='{ns.BOSH}' xmlns:xmpp='{ns.XBOSH}'{written}>{content}</body>"

    async def post(self, text: str, timeout: float = 15) -> Element:
        """Send one request as it is; the ``<body/>`` of the answer."""
        async with self.http.post(self.url, data=text, timeout=aiohttp.ClientTimeout(timeout)) as answer:
            assert answer.status == 200, answer.status
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            return ElementTree.fromstring(await answer.text())

    async def exchange(self, content: str = "", **attributes: str) -> Element:
        """The next request; what it brings is in ``inbox`` as well."""
        text = self.wrapper(content, **attributes)
        self.rid += 1
        answer = await self.post(text)
        self.inbox.extend(answer)
        return answer

    async def take(self) -> Element:
        """The next payload, polled for."""
        while not self.inbox:
            answer = await self.exchange()
            assert answer.get("type") is None, ElementTree.tostring(answer)
        return self.inbox.popleft()

    async def until(self, tag: str) -> Element:
        """The next payload of that tag; others are dropped."""
        while (found := await self.take()).tag != tag:
            pass
        return found

    async def create(self, **attributes: str) -> Element:
        """The first request; its answer."""
        terms = {"to": self.domain, "wait": "5", "hold": "1", "ver": "1.11", "xmpp__version": "1.0", **attributes}
        answer = await self.exchange("", **terms)
        self.sid = answer.get("sid", "")
        return answer

    async def authenticate(self, name: str) -> None:
        """SASL and the restart; the features after it are dropped."""
        self.inbox.clear()
        scram = ScramClient("SCRAM-SHA-256", name, f"secret-{name}")
        text = base64.b64encode(scram.first()).decode()
        await self.exchange(f"<auth xmlns='{ns.SASL}' mechanism='SCRAM-SHA-256'>{text}</auth>")
        challenge = await self.take()
        answer = base64.b64encode(scram.final(base64.b64decode(challenge.text or ""))).decode()
        await self.exchange(f"<response xmlns='{ns.SASL}'>{answer}</response>")
        scram.check(base64.b64decode((await self.take()).text or ""))
        await self.exchange(to=self.domain, xmpp__restart="true")
        await self.until(f"{{{ns.STREAM}}}features")

    async def login(self, name: str, resource: str = "web") -> str:
        """Everything up to the resource; the full JID."""
        await self.create()
        await self.authenticate(name)
        await self.exchange(
            f"<iq xmlns='{ns.CLIENT}' type='set' id='b'><bind xmlns='{ns.BIND}'><resource>{resource}</resource></bind></iq>"
        )
        jid = (await self.until(f"{CLIENT}iq")).findtext(f"{{{ns.BIND}}}bind/{{{ns.BIND}}}jid")
        assert jid is not None
        return jid

    async def show(self) -> None:
        """Initial presence, seen to come back."""
        await self.exchange(f"<presence xmlns='{ns.CLIENT}'/>")
        await self.until(f"{CLIENT}presence")


@contextlib.asynccontextmanager
async def bosh(node: ParleyServer) -> AsyncIterator[BoshClient]:
    """A client that has not begun yet."""
    trust = ssl.create_default_context(cafile=str(node.authority.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http:
        yield BoshClient(http, node)


async def dropped(client: BoshClient, text: str) -> None:
    """Send a request and go away before its answer."""
    sent = asyncio.ensure_future(client.post(text))
    done, _ = await asyncio.wait([sent], timeout=0.3)
    if not done:
        sent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sent
