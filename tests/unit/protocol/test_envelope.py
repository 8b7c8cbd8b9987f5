"""The envelope: what is taken, and the poison that is refused at the door (S-175, S-178)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.envelope import Batch, EnvelopeRefused, Item, read_answer, read_batch, write

EPOCH = "0" * 32


def batch(**changes: object) -> dict[str, object]:
    return {"origin": "a.example", "destination": "b.example", "epoch": EPOCH, "stanzas": [], "passing": []} | changes


def item(**changes: object) -> dict[str, object]:
    return {"seq": 1, "id": "7", "xml": "<message/>"} | changes


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


ITEMS = {
    "seq zero": item(seq=0),
    "seq negative": item(seq=-1),
    "seq over 2**53": item(seq=2**53),
    "seq huge": item(seq=10**400),
    "seq float": item(seq=1.0),
    "seq text": item(seq="1"),
    "seq bool": item(seq=True),
    "seq null": item(seq=None),
    "no id": {"seq": 1, "xml": "<message/>"},
    "empty id": item(id=""),
    "long id": item(id="x" * 129),
    "id number": item(id=7),
    "no xml": {"seq": 1, "id": "7"},
    "xml and void": item(void="expired"),
    "void with id": {"seq": 1, "id": "7", "void": "expired"},
    "void unknown": {"seq": 1, "void": "because"},
    "unknown member": item(depth=-1),
    "list": [1, "7", "<message/>"],
}


@pytest.mark.parametrize("entry", ITEMS.values(), ids=ITEMS)
def test_broken_entries(entry: object) -> None:
    with pytest.raises(EnvelopeRefused):
        read_batch(json.dumps(batch(stanzas=[entry])).encode())


BODIES = {
    "empty": b"",
    "not JSON": b"<message/>",
    "array": b"[]",
    "trailing": json.dumps(batch()).encode() + b" x",
    "two objects": json.dumps(batch()).encode() * 2,
    "NaN": raw(json.dumps(batch(stanzas=[float("nan")]))),
    "exponent": json.dumps(batch(stanzas=[item()])).replace('"seq": 1', '"seq": 1e0').encode(),
    "epoch short": json.dumps(batch(epoch="00")).encode(),
    "epoch upper case": json.dumps(batch(epoch="A" * 32)).encode(),
    "epoch missing": b'{"origin":"a.example","destination":"b.example"}',
    "previous epoch broken": json.dumps(batch(previous_epoch="x")).encode(),
    "unknown member": json.dumps(batch(room="x")).encode(),
    "member twice": json.dumps(batch()).replace('"origin"', '"origin": "c.example", "origin"').encode(),
    "member twice by escape": json.dumps(batch()).replace('"origin"', '"\\u006frigin": "c.example", "origin"').encode(),
    "entry member twice": json.dumps(batch(stanzas=[item()])).replace('"seq": 1', '"seq": 2, "seq": 1').encode(),
    "not UTF-8": json.dumps(batch()).encode().replace(b"a.example", b"\xff.example"),
    "UTF-16": json.dumps(batch()).encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(batch()).encode(),
    "lone surrogate": raw(json.dumps(batch(passing=["\ud800"]), ensure_ascii=False)),
    "lone surrogate escaped": json.dumps(batch(passing=["\ud800"])).encode(),
    "surrogates swapped": json.dumps(batch(passing=["\udc00\ud800"])).encode(),
    "control character": json.dumps(batch(passing=["x"])).replace('"x"', '"\x01"').encode(),
    "passing not text": json.dumps(batch(passing=[["<a/>"]])).encode(),
    "passing deep": b'{"passing":' + b"[" * 100_000,
    "unknown deep": b'{"x":' + b'{"x":' * 100_000,
    "gap inside": json.dumps(batch(stanzas=[item(), item(seq=3)])).encode(),
    "same number twice": json.dumps(batch(stanzas=[item(), item()])).encode(),
    "numbers fall": json.dumps(batch(stanzas=[item(seq=2), item(seq=1)])).encode(),
    "too many": json.dumps(batch(stanzas=[item(seq=number) for number in range(1, 1002)])).encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_broken_bodies(body: bytes) -> None:
    with pytest.raises(EnvelopeRefused):
        read_batch(body)


def test_other_spellings_of_the_same_are_taken() -> None:
    text = json.dumps(batch(stanzas=[item(xml="<message>\u00e9</message>")]), indent=2)
    assert read_batch(text.encode()).stanzas[0].xml == "<message>\u00e9</message>"


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), max_size=5), st.integers(1, 2**53 - 10))
def test_round_trip(texts: list[str], first: int) -> None:
    items = [Item(number, f"i{number}", text) for number, text in enumerate(texts, first)]
    made = Batch("a.example", "b.example", EPOCH, None, items, texts)
    assert read_batch(write(made)) == made
    assert read_batch(json.dumps(json.loads(write(made))).encode()) == made


def test_answers() -> None:
    assert read_answer(b'{"epoch":"' + b"0" * 32 + b'","accepted":3}').accepted == 3
    for body in (b"{}", b'{"epoch":"' + b"0" * 32 + b'","accepted":-1}', b'{"epoch":1,"accepted":1}', b"null"):
        with pytest.raises(EnvelopeRefused):
            read_answer(body)
