"""The body of a transaction between servers, and of its answer: strict JSON.

A body is refused as a whole when it is not exactly what the protocol page describes: other members, a member twice,
numbers that are not integers below 2**53, text that is not UTF-8 or holds a lone surrogate. What is inside a stanza is
not looked at here; one broken stanza must not cost its neighbours their place.
"""

import json
import re
from typing import Annotated, Final, Literal, TypeVar

import msgspec

__all__ = ["Answer", "Batch", "EnvelopeRefused", "Item", "Rejection", "read_answer", "read_batch", "write"]

CONTENT_TYPE: Final = "application/json"
MAX_NUMBER: Final = 2**53 - 1
"""Above this a JSON number loses digits in many parsers (RFC 8259 s6)."""
MAX_STANZAS: Final = 1000
"""Most durable stanzas in one batch, and how many ids a receiver remembers (of the last numbers)."""

Sequence = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
T = TypeVar("T")
Reason = Literal["expired", "dropped", "other-transport"]


class EnvelopeRefused(ValueError):
    """The body is not a well-formed transaction. The text tells the peer what is wrong with it."""


class Item(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A numbered stanza, or a number whose stanza will not come (``void``).

    ``id`` names the stanza at its origin for ever; ``xml`` is its text in the namespace ``jabber:client``.
    """

    seq: Sequence
    id: str | None = None
    xml: str | None = None
    void: Reason | None = None


class Batch(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a server hands to another. ``stanzas`` are durable and numbered, ``passing`` are neither."""

    origin: str
    destination: str
    epoch: str
    previous_epoch: str | None = None
    stanzas: list[Item] = []
    passing: list[str] = []


class Rejection(msgspec.Struct, forbid_unknown_fields=True):
    """A number whose stanza could not be processed as a stanza."""

    seq: Sequence
    error: str


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What the receiver holds: the epoch it knows, its highest contiguous number, what it rejected."""

    epoch: str
    accepted: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
    rejected: list[Rejection] = []


_BATCH: Final = msgspec.json.Decoder(Batch)
_ANSWER: Final = msgspec.json.Decoder(Answer)
_ENCODER: Final = msgspec.json.Encoder()
_EPOCH: Final = re.compile(r"[0-9a-f]{32}")


def write(body: Batch | Answer) -> bytes:
    """Encode."""
    return _ENCODER.encode(body)


def read_batch(body: bytes) -> Batch:
    """Decode and check everything that does not need to know who sent it. Raises `EnvelopeRefused`."""
    batch = _read(_BATCH, body)
    _check_epoch(batch.epoch)
    if batch.previous_epoch is not None:
        _check_epoch(batch.previous_epoch)
    if len(batch.stanzas) > MAX_STANZAS:
        raise EnvelopeRefused(f"more than {MAX_STANZAS} stanzas")
    expected = batch.stanzas[0].seq if batch.stanzas else 0
    for item in batch.stanzas:
        if item.seq != expected:
            raise EnvelopeRefused("numbers of one batch must follow each other")
        if (item.void is None) != (item.xml is not None and bool(item.id)) or (item.void and (item.id or item.xml)):
            raise EnvelopeRefused("an entry is either id and xml, or void")
        if item.id is not None and len(item.id) > 128:
            raise EnvelopeRefused("id is longer than 128 characters")
        expected += 1
    return batch


def read_answer(body: bytes) -> Answer:
    """Decode the answer of a peer. Raises `EnvelopeRefused`."""
    answer = _read(_ANSWER, body)
    _check_epoch(answer.epoch)
    return answer


def _check_epoch(epoch: str) -> None:
    if _EPOCH.fullmatch(epoch) is None:
        raise EnvelopeRefused("an epoch is 32 lower-case hexadecimal digits")


def _read(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        found = decoder.decode(body)
        # Our own encoder never writes a member twice: what encodes to the same bytes needs no second look.
        if _ENCODER.encode(found) != body:
            json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except EnvelopeRefused:
        raise
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as error:
        raise EnvelopeRefused(f"not a transaction: {error}") from error
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EnvelopeRefused("a member is there twice")
    return found
