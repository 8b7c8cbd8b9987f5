"""Push notifications from outside (XEP-0357): a client, a sender, and an app server that writes down what it is told."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from tests.e2e.conftest import MakeNode, MakePair
from tests.kit.client_stream import RawClient
from tests.kit.json_device import JsonDevice
from tests.kit.node import HOST, ParleyServer
from tests.kit.server import Account

QUICK = {"push": {"interval": "1 ms"}}
PATIENCE = 15.0
COMPOSING = f"<composing xmlns='{ns.CHAT_STATES}'/>"
RECEIPT = f"<received xmlns='{ns.RECEIPTS}' id='1'/>"
MARKER = f"<displayed xmlns='{ns.CHAT_MARKERS}' id='1'/>"
RETRACTION = f"<retract xmlns='{ns.RETRACTION}' id='1'/><body>taken back</body>"


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str, *, managed: bool = False) -> AsyncIterator[RawClient]:
    """Logged in and not available; ``managed``: its stream can be resumed."""
    made = RawClient(HOST, node.ports.xmpp, node.domain)
    wish = f"<enable xmlns='{ns.STREAM_MANAGEMENT}' resume='true'/>" if managed else ""
    try:
        await made.connect()
        await made.open()
        await made.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
        await made.authenticate2(name, f"secret-{name}", inline=f"<bind xmlns='{ns.BIND2}'>{wish}</bind>")
        yield made
    finally:
        made.abort()


@dataclass(frozen=True)
class Told:
    """One notification."""

    sender: str
    node: str
    fields: dict[str, str]
    options: dict[str, str]


@dataclass
class AppServer:
    """A client that answers like an app server; ``refusal`` is the error it answers with, as (type, condition)."""

    stream: RawClient
    told: list[Told] = field(default_factory=list)
    refusal: tuple[str, str] | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self) -> None:
        while True:
            stanza = await self.stream.recv_stanza(timeout=600)
            publish = stanza.find(f"{{{ns.PUBSUB}}}pubsub/{{{ns.PUBSUB}}}publish")
            if publish is None:
                continue
            summary = publish.find(f"{{{ns.PUBSUB}}}item/{{{ns.PUSH}}}notification/{{{ns.DATA_FORM}}}x")
            options = stanza.find(f"{{{ns.PUBSUB}}}pubsub/{{{ns.PUBSUB}}}publish-options/{{{ns.DATA_FORM}}}x")
            assert summary is not None
            to = f"to='{stanza.get('from')}' id='{stanza.get('id')}'"
            if self.refusal is None:
                await self.stream.send(f"<iq type='result' {to}/>")
            else:
                kind, condition = self.refusal
                error = f"<error type='{kind}'><{condition} xmlns='{ns.STANZA_ERRORS}'/></error>"
                await self.stream.send(f"<iq type='error' {to}>{error}</iq>")
            self.told.append(Told(stanza.get("from", ""), publish.get("node", ""), values(summary), values(options)))
            self.moved.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.moved.clear()
                await self.moved.wait()


def values(form: Element | None) -> dict[str, str]:
    fields = [] if form is None else form.findall(f"{{{ns.DATA_FORM}}}field")
    return {each.get("var", ""): each.findtext(f"{{{ns.DATA_FORM}}}value") or "" for each in fields}


@contextlib.asynccontextmanager
async def app_server(node: ParleyServer, *users: str) -> AsyncIterator[AppServer]:
    """The account ``app`` of a node; it shows itself to the users, or their server could not ask it."""
    async with client(node, "app") as stream:
        for user in users:
            await stream.send(f"<presence to='{user}'/>")
        await pinged(stream)
        made = AppServer(stream)
        serving = asyncio.create_task(made.serve())
        try:
            yield made
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def pinged(stream: RawClient) -> None:
    answer = await stream.request("get", f"<ping xmlns='{ns.PING}'/>", stream.domain)
    assert answer.get("type") == "result"


async def enable(stream: RawClient, app: AppServer, node: str = "n1", secret: str = "") -> None:
    form = (
        f"<x xmlns='{ns.DATA_FORM}' type='submit'><field var='FORM_TYPE'><value>{ns.PUBSUB_PUBLISH_OPTIONS}</value></field>"
        f"<field var='secret'><value>{secret}</value></field></x>"
    )
    payload = f"<enable xmlns='{ns.PUSH}' jid='{app.stream.jid}' node='{node}'>{form if secret else ''}</enable>"
    assert (await stream.request("set", payload)).get("type") == "result"


async def available(stream: RawClient) -> None:
    await stream.send("<presence/>")
    await stream.expect(lambda found: found.tag.endswith("}presence") and found.get("from") == stream.jid)


async def say(stream: RawClient, to: str, content: str) -> None:
    """Sent, and handled by the sender's server."""
    await stream.send(f"<message to='{to}' type='chat'>{content}</message>")
    await pinged(stream)


async def test_one_for_what_waits_none_for_a_chat_state_none_with_a_device_there(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "app"], extra=QUICK)
    await node.start()
    bob_jid = f"bob@{node.domain}"
    async with client(node, "ann") as ann, app_server(node, bob_jid) as app:
        async with client(node, "bob") as bob:
            await enable(bob, app, secret="s3cret")
            await available(bob)
            await say(ann, bob_jid, "<body>seen at once</body>")
            found = await bob.expect(lambda found: found.tag.endswith("}message"))
            assert found.findtext(f"{{{ns.CLIENT}}}body") == "seen at once"
            await bob.send("<presence type='unavailable'/>")
            await pinged(bob)
        for nothing in (COMPOSING, RECEIPT, MARKER, RETRACTION):
            await say(ann, bob_jid, nothing)
        await say(ann, bob_jid, "<body>the secret plan</body>")
        await app.until(lambda: bool(app.told))
        # What was pushed for the messages before would have come before.
        (told,) = app.told
        assert told.sender == bob_jid
        assert told.node == "n1"
        assert told.options == {"FORM_TYPE": ns.PUBSUB_PUBLISH_OPTIONS, "secret": "s3cret"}
        assert told.fields["FORM_TYPE"] == ns.PUSH_SUMMARY
        assert told.fields["last-message-body"] == "New message"
        assert told.fields["pending-subscription-count"] == "0"
        assert "last-message-sender" not in told.fields
        assert "plan" not in str(told)
        await say(ann, bob_jid, f"<propose xmlns='{ns.JINGLE_MESSAGE}' id='c1'/><store xmlns='{ns.HINTS}'/>")
        await app.until(lambda: len(app.told) == 2)
        assert int(app.told[1].fields["message-count"]) > int(told.fields["message-count"])


async def test_s79_who_is_blocked_wakes_nobody(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "cat", "app"], extra=QUICK)
    await node.start()
    bob_jid = f"bob@{node.domain}"
    block = f"<block xmlns='{ns.BLOCKING}'><item jid='ann@{node.domain}'/></block>"
    call = f"<propose xmlns='{ns.JINGLE_MESSAGE}' id='c1'/><store xmlns='{ns.HINTS}'/>"
    async with client(node, "ann") as ann, client(node, "cat") as cat, app_server(node, bob_jid) as app:
        async with client(node, "bob") as bob:
            await enable(bob, app)
            assert (await bob.request("set", block)).get("type") == "result"
        for content in ("<body>let me in</body>", call):
            await say(ann, bob_jid, content)
        await say(cat, bob_jid, "<body>hello</body>")
        await app.until(lambda: bool(app.told))
        # What was pushed for the blocked ones would have come before.
        assert [told.fields["message-count"] for told in app.told] == ["1"]


async def test_a_session_that_hibernates_is_no_device_that_is_there(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "app"], extra=QUICK)
    await node.start()
    bob_jid = f"bob@{node.domain}"
    async with client(node, "ann") as ann, app_server(node, bob_jid) as app:
        async with client(node, "bob", managed=True) as bob:
            await enable(bob, app)
            await available(bob)
            await bob.acknowledge()
            await say(ann, bob_jid, "<body>acknowledged</body>")
            await bob.expect(lambda found: found.tag.endswith("}message"))
            await bob.acknowledge()
            await pinged(bob)
            await say(ann, bob_jid, "<body>under way</body>")
            await bob.expect(lambda found: found.tag.endswith("}message"))
            await pinged(ann)
            assert app.told == []
        # The connection is gone, and with it what was not acknowledged.
        await app.until(lambda: bool(app.told))
        await say(ann, bob_jid, COMPOSING)
        await say(ann, bob_jid, "<body>while it hibernates</body>")
        await app.until(lambda: len(app.told) == 2)
        async with client(node, "bob") as tablet:
            await available(tablet)
            await say(ann, bob_jid, "<body>the tablet is there</body>")
            await tablet.expect(lambda found: found.findtext(f"{{{ns.CLIENT}}}body") == "the tablet is there")
            await pinged(ann)
        assert len(app.told) == 2


async def test_an_app_server_of_another_domain_over_a_restart(make_pair: MakePair) -> None:
    one, two = make_pair(["ann", "bob", "app"], extra=QUICK)
    await asyncio.gather(one.start(), two.start())
    bob_jid = f"bob@{one.domain}"
    async with app_server(two, bob_jid) as app:
        async with client(one, "bob") as bob:
            await enable(bob, app, "first")
            await enable(bob, app, "second")
        await one.stop()
        await one.start()
        async with client(two, "ann") as ann:
            await say(ann, bob_jid, "<body>from elsewhere</body>")
            await app.until(lambda: len(app.told) == 2)
            assert sorted(told.node for told in app.told) == ["first", "second"]
        async with client(one, "bob") as bob:
            answer = await bob.request("set", f"<disable xmlns='{ns.PUSH}' jid='{app.stream.jid}' node='first'/>")
            assert answer.get("type") == "result"
        app.refusal = ("cancel", "item-not-found")
        async with client(one, "ann") as ann:
            await say(ann, bob_jid, "<body>refused</body>")
            await app.until(lambda: len(app.told) == 3)
            assert app.told[2].node == "second"
            app.refusal = None
            async with client(one, "bob") as bob:
                await enable(bob, app, "third")
            await say(ann, bob_jid, "<body>again</body>")
            await app.until(lambda: len(app.told) == 4)
            assert app.told[3].node == "third"


async def test_a_json_device_is_woken_until_it_is_logged_out(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "app"], extra=QUICK)
    await node.start()
    bob_jid = f"bob@{node.domain}"
    account = Account(bob_jid, "secret-bob")
    async with client(node, "ann") as ann, app_server(node, bob_jid) as app:
        async with JsonDevice(node.base_url, node.authority.ca_file, account) as device:
            body = {"service": app.stream.jid, "node": "json", "options": {"secret": ["s"]}}
            made = await device.call("POST", "/v1/push", body)
            assert made["node"] == "json"
            listed = await device.call("GET", "/v1/push")
            assert listed == {"push": [made]}
            await say(ann, bob_jid, "<body>on the socket</body>")
            await device.said("on the socket")
            assert app.told == []
        async with asyncio.timeout(PATIENCE):
            while not app.told:  # the server learns of the closed socket a moment later
                await say(ann, bob_jid, "<body>nobody there</body>")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(app.moved.wait(), 0.2)
        assert app.told[0].options["secret"] == "s"
        async with JsonDevice(node.base_url, node.authority.ca_file, account) as other:
            assert await other.call("GET", "/v1/push") == {"push": [made]}
            await other.call("DELETE", f"/v1/devices/{made['device_id']}")
            async with asyncio.timeout(PATIENCE):
                while await other.call("GET", "/v1/push") != {"push": []}:
                    await asyncio.sleep(0.02)


def refusal(answer: Element) -> tuple[str, str]:
    error = answer.find(f"{{{ns.CLIENT}}}error")
    assert error is not None, answer.get("type")
    return error.get("type", ""), error[0].tag.rpartition("}")[2]


async def test_registrations_are_checked_and_belong_to_their_account(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "app"], extra={"push": {"interval": "1 ms", "registrations": 2}})
    await node.start()
    bob_jid = f"bob@{node.domain}"
    account = Account(bob_jid, "secret-bob")
    fields = "".join(f"<field var='f{number}'><value>x</value></field>" for number in range(40))
    form = f"<x xmlns='{ns.DATA_FORM}' type='{{}}'><field var='FORM_TYPE'><value>{ns.PUBSUB_PUBLISH_OPTIONS}</value></field>{{}}</x>"
    async with client(node, "ann") as ann, client(node, "bob") as bob, app_server(node, bob_jid) as app:
        info = await bob.request("get", f"<query xmlns='{ns.DISCO_INFO}'/>", bob_jid)
        assert ns.PUSH in {found.get("var") for found in info[0]}
        for payload, expected in (
            (f"<enable xmlns='{ns.PUSH}' node='n'/>", "bad-request"),
            (f"<enable xmlns='{ns.PUSH}' jid='' node='n'/>", "bad-request"),
            (f"<enable xmlns='{ns.PUSH}' jid='a@@b' node='n'/>", "jid-malformed"),
            (f"<enable xmlns='{ns.PUSH}' jid='push.example'/>", "bad-request"),
            (f"<enable xmlns='{ns.PUSH}' jid='push.example' node='{'n' * 1025}'/>", "not-acceptable"),
            (f"<enable xmlns='{ns.PUSH}' jid='p.example' node='n'>{form.format('submit', fields)}</enable>", "not-acceptable"),
            (f"<enable xmlns='{ns.PUSH}' jid='p.example' node='n'>{form.format('odd', '')}</enable>", "bad-request"),
            (f"<disable xmlns='{ns.PUSH}'/>", "bad-request"),
        ):  # fmt: skip
            assert refusal(await bob.request("set", payload)) == ("modify", expected), payload
        # Neither may somebody else have Bob's messages announced, nor end what he enabled.
        await enable(bob, app, "first", "s3cret")
        for verb in ("enable", "disable"):
            payload = f"<{verb} xmlns='{ns.PUSH}' jid='{app.stream.jid}' node='first'/>"
            answer = await ann.request("set", payload, bob_jid)
            assert refusal(answer) == ("cancel", "service-unavailable")
            assert (await ann.request("set", payload)).get("type") == "result"
        for name in ("second", "third"):
            await enable(bob, app, name)
        answer = await bob.request("set", f"<disable xmlns='{ns.PUSH}' jid='unknown.example'/>")
        assert answer.get("type") == "result"
        async with JsonDevice(node.base_url, node.authority.ca_file, account) as device:
            listed = await device.call("GET", "/v1/push")
            assert [each["node"] for each in listed["push"]] == ["second", "third"]
            assert "s3cret" not in str(listed)
        await say(ann, bob_jid, "<body>x</body>")
        await app.until(lambda: len(app.told) == 2)
        assert {told.sender for told in app.told} == {bob_jid}
        answer = await bob.request("set", f"<disable xmlns='{ns.PUSH}' jid='{app.stream.jid}'/>")
        assert answer.get("type") == "result"
        async with JsonDevice(node.base_url, node.authority.ca_file, account) as device:
            assert await device.call("GET", "/v1/push") == {"push": []}
