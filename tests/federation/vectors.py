"""Makes the test vectors of docs/federation.md: ``python -m tests.federation.vectors``.

Everything is fixed: keys, times, epoch. The blocks between ``<!-- vectors -->`` and ``<!-- end of vectors -->`` are
written anew; `test_vectors.py` checks the page with nothing but what the page says.
"""

import base64
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeserver.protocol import envelope
from homeserver.protocol.envelope import Answer, Batch, Item
from homeserver.protocol.keydocs import KeyDocument, PublishedKey, make_document
from homeserver.protocol.signing import Signed, SigningKey, read_answer, read_request, sign_answer, sign_request

PAGE: Final = Path(__file__).parents[2] / "docs" / "federation.md"
START: Final = "<!-- vectors -->\n"
END: Final = "<!-- end of vectors -->\n"
ORIGIN: Final = SigningKey("ed25519-a1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
DESTINATION: Final = SigningKey("ed25519-b1", Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))
NOW: Final = 1_763_600_000
URL: Final = "https://chat.b.example/federation/v1/transactions/a.example/1763600000000"
WAKE: Final = "https://chat.b.example/federation/v1/wake"


def _key(name: str, domain: str, key: SigningKey) -> str:
    seed, public = key.private.private_bytes_raw(), key.private.public_key().public_bytes_raw()
    return (
        f"{name} (`{domain}`, key id `{key.id}`), seed and public key, base64:\n\n"
        f"```key {name}\n{base64.b64encode(seed).decode()}\n{base64.b64encode(public).decode()}\n```\n\n"
    )


def _message(name: str, first: str, signed: Signed, body: bytes, base: bytes) -> str:
    lines = "\n".join(f"{key}: {value}" for key, value in signed.headers.items())
    return (
        f"```http {name}\n{first}\n{lines}\n\n{body.decode()}\n```\n\n"
        f"Signature base of it (the last line has no line end):\n\n```base {name}\n{base.decode()}\n```\n\n"
    )


def _headers(signed: Signed) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), value.encode()) for key, value in signed.headers.items()]


def vectors() -> str:
    """The text between the two marks."""
    batch = Batch(
        "a.example",
        "b.example",
        "00112233445566778899aabbccddeeff",
        None,
        [
            Item(
                1,
                "1763600000000001",
                "<message from='alice@a.example/x' to='bob@b.example' type='chat' id='m1'><body>Gr\u00fc\u00dfe</body></message>",
            ),
            Item(2, void="expired"),
        ],
        ["<presence from='alice@a.example/x' to='bob@b.example'/>"],
    )
    body = envelope.write(batch)
    request = sign_request(ORIGIN, "PUT", URL, "a.example", "b.example", NOW, body)
    answer_body = envelope.write(Answer(batch.epoch, 2))
    answer = sign_answer(DESTINATION, 200, answer_body, "PUT", URL, request.signature, NOW + 1)
    answer = Signed({"Content-Type": "application/json", **answer.headers}, answer.signature)
    wake = sign_request(ORIGIN, "POST", WAKE, "a.example", "b.example", NOW)
    public = ORIGIN.private.public_key().public_bytes_raw()
    keys = KeyDocument("a.example", NOW, ("groups.a.example",), (PublishedKey(ORIGIN.id, public, NOW),))
    return (
        _key("origin", "a.example", ORIGIN)
        + _key("destination", "b.example", DESTINATION)
        + f"The base URL of `b.example` is `https://chat.b.example/federation/v1`. All times are {NOW} or one second "
        "more.\n\nA transaction:\n\n"
        + _message("request", f"PUT {URL}", request, body, read_request("PUT", URL, _headers(request)).base)
        + "Its answer:\n\n"
        + _message(
            "answer",
            "200",
            answer,
            answer_body,
            read_answer(200, _headers(answer), answer_body, "PUT", URL, request.signature).base,
        )
        + "A wake-up call, which has no content:\n\n"
        + _message("wake", f"POST {WAKE}", wake, b"", read_request("POST", WAKE, _headers(wake)).base)
        + "The key document of `a.example`:\n\n"
        + f"```json keys\n{make_document(keys, [ORIGIN]).decode()}\n```\n\n"
    )


def page_with_vectors(text: str) -> str:
    """The page with its vectors made anew."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + vectors() + END + after


if __name__ == "__main__":
    PAGE.write_text(page_with_vectors(PAGE.read_text("utf-8")), "utf-8")
