"""The test vectors of docs/federation.md are right, judged by the text of the page alone."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.federation.vectors import PAGE, page_with_vectors

TEXT = PAGE.read_text("utf-8")


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)\n```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None, kind
    return found[1]


def key(name: str) -> Ed25519PublicKey:
    seed, public = (base64.b64decode(line) for line in block(f"key {name}").splitlines())
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == public
    return Ed25519PublicKey.from_public_bytes(public)


def message(name: str) -> tuple[str, dict[str, str], bytes]:
    head, _, body = block(f"http {name}").partition("\n\n")
    first, *lines = head.splitlines()
    return first, {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}, body.encode()


def base(name: str) -> str:
    """The signature base, put together as the page says."""
    first, headers, _ = message(name)
    parameters = headers["signature-input"].removeprefix("parley=")
    request = message("request") if name == "answer" else (first, headers, b"")
    method, _, url = request[0].partition(" ")
    values = {
        '"@method"': method,
        '"@target-uri"': url,
        '"@status"': first,
        '"@method";req': method,
        '"@target-uri";req': url,
        '"signature";key="parley";req': request[1]["signature"].removeprefix("parley="),
    }
    lines = []
    for component in parameters[1 : parameters.index(")")].split(" "):
        value = values.get(component) or headers[component.strip('"')]
        lines.append(f"{component}: {value}")
    return "\n".join([*lines, f'"@signature-params": {parameters}'])


@pytest.mark.parametrize(("name", "signer"), [("request", "origin"), ("answer", "destination"), ("wake", "origin")])
def test_message(name: str, signer: str) -> None:
    _, headers, body = message(name)
    assert base(name) == block(f"base {name}")
    signature = re.fullmatch(r"parley=:([A-Za-z0-9+/=]+):", headers["signature"])
    assert signature is not None
    key(signer).verify(base64.b64decode(signature[1]), base(name).encode("ascii"))
    if body:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        assert headers["content-digest"] == f"sha-256=:{digest}:"
        json.loads(body)


def test_key_document() -> None:
    found = json.loads(block("json keys"))
    for entry in found["signatures"]:
        signed = f"{entry['protected']}.{found['payload']}".encode("ascii")
        signature = base64.urlsafe_b64decode(entry["signature"] + "==")
        key("origin").verify(signature, signed)
    payload = json.loads(base64.urlsafe_b64decode(found["payload"] + "=="))
    assert payload["domain"] == "a.example"
    assert base64.urlsafe_b64decode(payload["keys"][0]["x"] + "=") == key("origin").public_bytes_raw()


def test_the_page_is_what_the_code_makes() -> None:
    assert page_with_vectors(TEXT) == TEXT


def test_every_refusal_is_on_the_page() -> None:
    from federation.inbound import StanzaRejected  # noqa: F401
    from homeserver.protocol.problems import STATUS

    for name, status in STATUS.items():
        assert re.search(rf"^\| {status} \| `{name}` \|", TEXT, re.MULTILINE), name
    source = Path(__file__).parents[2] / "federation" / "inbound.py"
    for reason in re.findall(r"StanzaRejected\(\s*\"([a-z-]+)\"", source.read_text("utf-8")):
        assert f"`{reason}`" in TEXT
