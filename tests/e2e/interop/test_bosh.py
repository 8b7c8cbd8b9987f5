"""XMPP over BOSH (XEP-0124, XEP-0206): sessions, order of requests, lost answers, ends and refusals."""

import asyncio
import hashlib
from xml.etree.ElementTree import Element

import pytest

from homeserver.protocol import namespaces as ns
from tests.kit.bosh import CLIENT, bosh, dropped
from tests.kit.node import ParleyServer
from tests.kit.slix import Slix


def said(found: Element) -> str | None:
    return found.findtext(f"{CLIENT}body")


def message(to: str, text: str) -> str:
    return f"<message xmlns='{ns.CLIENT}' to='{to}' type='chat'><body>{text}</body></message>"


async def test_messages_over_two_domains(one: ParleyServer, two: ParleyServer) -> None:
    account = next(found for found in two.accounts if found.local == "bob")
    async with bosh(one) as ann, Slix(two.endpoint, account) as bob:
        jid = await ann.login("ann")
        await ann.show()
        await ann.exchange(message("bob@two.example", "by BOSH &amp; so on"))
        await bob.said("by BOSH & so on")
        bob.say(jid, "and back")
        assert said(await ann.until(f"{CLIENT}message")) == "and back"
        ended = await ann.exchange(f"<presence xmlns='{ns.CLIENT}' type='unavailable'/>", type="terminate")
        assert ended.get("type") == "terminate"
        assert ended.get("condition") is None
        assert (await ann.exchange()).get("condition") == "item-not-found"


async def test_terms_of_a_session(one: ParleyServer) -> None:
    async with bosh(one) as made:
        answer = await made.create(wait="600", hold="5", ack="1")
        told = dict(answer.attrib)
        assert len(told.pop("sid")) >= 22
        assert told.pop("authid")
        assert told == {
            "wait": "60", "hold": "1", "requests": "2", "inactivity": "60", "polling": "5", "maxpause": "120",
            "ver": "1.11", "from": "one.example", "ack": "1573741820",
            f"{{{ns.XBOSH}}}version": "1.0", f"{{{ns.XBOSH}}}restartlogic": "true",
        }  # fmt: skip
        assert [found.tag for found in answer] == [f"{{{ns.STREAM}}}features"]


async def test_an_answer_that_got_lost_is_given_again(one: ParleyServer, two: ParleyServer) -> None:
    account = next(found for found in two.accounts if found.local == "cat")
    async with bosh(one) as made, Slix(two.endpoint, account) as other:
        jid = await made.login("dan")
        await made.show()
        poll = made.wrapper()
        waiting = asyncio.ensure_future(made.post(poll))
        other.say(jid, "once")
        first = await waiting
        again = await made.post(poll)
        assert [said(found) for found in first] == [said(found) for found in again] == ["once"]
        # A request whose connection broke before there was an answer is held anew.
        made.rid += 1
        poll = made.wrapper()
        await dropped(made, poll)
        other.say(jid, "twice")
        await other.settled()
        assert [said(found) for found in await made.post(poll)] == ["twice"]


async def test_requests_are_handled_in_order(one: ParleyServer, two: ParleyServer) -> None:
    account = next(found for found in two.accounts if found.local == "eve")
    async with bosh(one) as made, Slix(two.endpoint, account) as other:
        await made.login("eve")
        await made.show()
        second = asyncio.ensure_future(made.post(made.wrapper(message("eve@two.example", "2"), rid=made.rid + 1)))
        done, _ = await asyncio.wait([second], timeout=0.3)
        assert not done
        await made.post(made.wrapper(message("eve@two.example", "1")))
        await other.said("1", "2")
        made.rid += 2
        await made.exchange()
        assert (await second).get("type") is None


async def test_what_was_in_no_answer_waits_for_the_next_login(one: ParleyServer, two: ParleyServer) -> None:
    sender = next(found for found in two.accounts if found.local == "fay")
    async with Slix(two.endpoint, sender) as fay:
        async with bosh(one) as made:
            await made.login("gus")
            await made.show()
            fay.say("gus@one.example", "into the void")
            await fay.settled()
            answer = await made.exchange(type="terminate")
            assert answer.get("type") == "terminate"
        own = next(found for found in one.accounts if found.local == "gus")
        async with Slix(one.endpoint, own) as gus:
            if "into the void" not in [said(found) for found in answer]:
                await gus.said("into the void")


async def test_keys(one: ParleyServer) -> None:
    keys = ["seed"]
    for _ in range(4):
        keys.append(hashlib.sha1(keys[-1].encode(), usedforsecurity=False).hexdigest())
    async with bosh(one) as made:
        await made.create(newkey=keys.pop())
        assert (await made.exchange(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>", key=keys.pop())).get("type") == "terminate"
    keys = [hashlib.sha1(b"a", usedforsecurity=False).hexdigest()]
    async with bosh(one) as made:
        await made.create(newkey=keys[0])
        assert (await made.exchange(key="wrong")).get("condition") == "item-not-found"


async def test_pause_answers_at_once_and_the_session_lives_on(one: ParleyServer) -> None:
    async with bosh(one) as made:
        await made.login("hal")
        waiting = asyncio.ensure_future(made.exchange())
        await asyncio.wait([waiting], timeout=0.2)
        paused = await made.exchange(pause="60")
        assert (len(paused), paused.get("type")) == (0, None)
        assert (await waiting).get("type") is None
        await made.exchange(f"<iq xmlns='{ns.CLIENT}' type='get' id='p'><ping xmlns='{ns.PING}'/></iq>")
        assert (await made.until(f"{CLIENT}iq")).get("id") == "p"


async def test_stream_errors_are_told(one: ParleyServer) -> None:
    async with bosh(one) as made:
        answer = await made.create(to="other.example")
        assert (answer.get("type"), answer.get("condition")) == ("terminate", "remote-stream-error")
        assert answer[-1][0].tag == f"{{{ns.STREAM_ERRORS}}}host-unknown"


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("<body", "bad-request"),
        ("<body xmlns='urn:other' rid='1'/>", "bad-request"),
        (f"<body xmlns='{ns.BOSH}' rid='x' to='one.example'/>", "bad-request"),
        (f"<body xmlns='{ns.BOSH}' rid='9007199254740992' to='one.example'/>", "bad-request"),
        (f"<body xmlns='{ns.BOSH}' rid='1' wait='a' to='one.example'/>", "bad-request"),
        (f"<body xmlns='{ns.BOSH}' rid='1'/>", "improper-addressing"),
        (f"<body xmlns='{ns.BOSH}' rid='1' sid='guess'/>", "item-not-found"),
        (f"<body xmlns='{ns.BOSH}' rid='1' to='one.example'>{'x' * 400_000}</body>", "policy-violation"),
    ],
)
async def test_refusals(one: ParleyServer, text: str, condition: str) -> None:
    async with bosh(one) as made:
        answer = await made.post(text)
        assert (answer.get("type"), answer.get("condition")) == ("terminate", condition)


@pytest.mark.parametrize("ahead", [5, -5])
async def test_a_request_outside_of_the_window_ends_the_session(one: ParleyServer, ahead: int) -> None:
    async with bosh(one) as made:
        await made.create()
        assert (await made.post(made.wrapper(rid=made.rid + ahead))).get("condition") == "item-not-found"
        assert (await made.exchange()).get("condition") == "item-not-found"


async def test_an_old_client_is_told_by_status(one: ParleyServer) -> None:
    async with bosh(one) as made:
        answer = await made.post(made.wrapper(to="one.example", wait="5", hold="1"))
        made.sid = answer.get("sid", "")
        async with made.http.post(made.url, data=made.wrapper(rid=made.rid + 9)) as refused:
            assert refused.status == 404


async def test_too_many_requests_at_a_time(one: ParleyServer) -> None:
    async with bosh(one) as made:
        await made.login("ida")
        early = [asyncio.ensure_future(made.post(made.wrapper(rid=made.rid + ahead))) for ahead in (1, 2)]
        await asyncio.wait(early, timeout=0.3)
        third = await made.post(made.wrapper())
        conditions = {(await one_of).get("condition") for one_of in early} | {third.get("condition")}
        assert conditions == {"policy-violation", "other-request"}


async def test_polling_too_fast(one: ParleyServer) -> None:
    async with bosh(one) as made:
        await made.create(wait="0", hold="0")
        made.inbox.clear()
        first = await made.exchange()
        assert (len(first), first.get("type")) == (0, None)
        assert (await made.exchange()).get("condition") == "policy-violation"


async def test_web_pages_of_any_origin_may_use_it(one: ParleyServer) -> None:
    async with bosh(one) as made:
        asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        async with made.http.options(made.url, headers=asks) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
            assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"


async def test_host_meta_names_it(one: ParleyServer) -> None:
    async with bosh(one) as made, made.http.get(f"{one.base_url}/.well-known/host-meta.json") as answer:
        links = {link["rel"]: link["href"] for link in (await answer.json(content_type=None))["links"]}
        assert links["urn:xmpp:alt-connections:xbosh"].endswith("/http-bind")
