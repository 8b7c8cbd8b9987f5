"""What wakes an inactive client."""

import pytest

from homeserver.protocol.csi import Class, InactiveQueue, Urgency, classify
from homeserver.protocol.document import parse_document
from homeserver.protocol.sm import SentItem
from homeserver.protocol.xml_input import XmlLimits

STATE = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
CARBON = "<{0} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'>{1}</message></forwarded></{0}>"


def urgency(xml: str) -> Class:
    name, _, rest = xml.partition(" ")
    return classify(parse_document(f"{name} xmlns='jabber:client' {rest}".encode(), XmlLimits()))


@pytest.mark.parametrize(
    "xml, expected",
    [
        ("<message ><body>x</body></message>", Urgency.FLUSH),
        ("<message type='error'><error/></message>", Urgency.FLUSH),
        ("<message ><encrypted xmlns='eu.siacs.conversations.axolotl'/></message>", Urgency.FLUSH),
        ("<message ><encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/></encrypted></message>", Urgency.FLUSH),
        ("<message ><encryption xmlns='urn:xmpp:eme:0' namespace='urn:example:new'/></message>", Urgency.FLUSH),
        ("<message ><openpgp xmlns='urn:xmpp:openpgp:0'/></message>", Urgency.FLUSH),
        ("<message ><propose xmlns='urn:xmpp:jingle-message:0' id='1'/></message>", Urgency.FLUSH),
        ("<message ><retract xmlns='urn:xmpp:jingle-message:0' id='1'/></message>", Urgency.FLUSH),
        ("<message ><subject>x</subject></message>", Urgency.FLUSH),
        (f"<message >{STATE}</message>", Urgency.DROP),
        (f"<message >{STATE}<no-store xmlns='urn:xmpp:hints'/></message>", Urgency.DROP),
        (f"<message >{STATE}<received xmlns='urn:xmpp:receipts' id='1'/></message>", Urgency.HOLD),
        ("<message ><received xmlns='urn:xmpp:receipts' id='1'/></message>", Urgency.HOLD),
        ("<message ><event xmlns='http://jabber.org/protocol/pubsub#event'/></message>", Urgency.HOLD),
        ("<message >" + CARBON.format("received", "<body>x</body>") + "</message>", Urgency.FLUSH),
        ("<message >" + CARBON.format("sent", "<body>x</body>") + "</message>", Urgency.HOLD),
        ("<message >" + CARBON.format("received", STATE) + "</message>", Urgency.DROP),
        ("<message >" + "<received xmlns='urn:xmpp:carbons:2'/></message>", Urgency.HOLD),
        ("<presence from='a@b/c'/>", Urgency.REPLACE),
        ("<presence type='unavailable' from='a@b/c'/>", Urgency.REPLACE),
        ("<presence type='subscribe' from='a@b'/>", Urgency.FLUSH),
        ("<presence from='r@m/n'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>", Urgency.FLUSH),
        ("<presence from='r@m/n'><x xmlns='http://jabber.org/protocol/muc#user'><item/></x></presence>", Urgency.REPLACE),
        ("<iq type='get' id='1'><q xmlns='u'/></iq>", Urgency.FLUSH),
    ],
)  # fmt: skip
def test_classify(xml: str, expected: Urgency) -> None:
    assert urgency(xml).urgency is expected


def test_queue_keeps_order_and_the_newest_presence() -> None:
    queue = InactiveQueue()
    hold, replace = Class(Urgency.HOLD), Class(Urgency.REPLACE, "a@b/c")
    assert not queue.add(replace, SentItem(None, b"old"))
    assert not queue.add(hold, SentItem(1, b"receipt"))
    assert not queue.add(replace, SentItem(None, b"new"))
    assert not queue.add(Class(Urgency.DROP), SentItem(None, b"typing"))
    assert queue.add(Class(Urgency.FLUSH), SentItem(2, b"message"))
    assert [item.data for item in queue.take()] == [b"receipt", b"new", b"message"]
    assert len(queue) == 0


def test_queue_is_bounded() -> None:
    queue = InactiveQueue(max_items=2, max_bytes=10)
    hold = Class(Urgency.HOLD)
    assert not queue.add(hold, SentItem(None, b"x"))
    assert not queue.add(hold, SentItem(None, b"x"))
    assert queue.add(hold, SentItem(None, b"x"))
    queue.take()
    assert queue.add(hold, SentItem(None, b"x" * 11))


def event(inner: str, more: str = "") -> str:
    return f"<message from='a@b'><event xmlns='http://jabber.org/protocol/pubsub#event'>{inner}</event>{more}</message>"


def test_of_notifications_the_newest_of_each_item_is_kept() -> None:
    mood, other = "<items node='mood'><item id='now'><m/></item></items>", "<items node='marks'><item id='1'/></items>"
    first = urgency(event(mood))
    assert first.urgency is Urgency.REPLACE
    assert urgency(event("<items node='mood'><retract id='now'/></items>")) == first
    keys = {urgency(event(found)).key for found in (mood, other, other.replace("'1'", "'2'"))}
    keys.add(urgency(event(mood).replace("a@b", "c@b")).key)
    assert len(keys) == 4


@pytest.mark.parametrize(
    "inner",
    ["", "<purge node='mood'/>", "<delete node='mood'/>", "<items node='mood'><item id='1'/><item id='2'/></items>"],
)
def test_other_notifications_wait_in_their_order(inner: str) -> None:
    assert urgency(event(inner)) == Class(Urgency.HOLD)


def test_a_notification_with_text_wakes() -> None:
    assert urgency(event("<items node='n'><item id='1'/></items>", "<body>x</body>")).urgency is Urgency.FLUSH
