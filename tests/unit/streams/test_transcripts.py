"""Every transcript in this folder, on TCP and on WebSocket framing (those in ``tcp/`` on TCP only)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from homeserver.protocol.c2s import ServerStream
from homeserver.protocol.fast import IssuedToken
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import TcpFraming, WebSocketFraming
from homeserver.protocol.jid import JID
from homeserver.protocol.scram import derive
from homeserver.protocol.sm import SentItem, SentQueue
from homeserver.protocol.upgrade import Salt
from homeserver.protocol.xml_input import XmlLimits
from tests.kit.stream_script import Script, read_transcript

FOLDER = Path(__file__).parent
BOTH = sorted(FOLDER.glob("*.xmpp"))
TCP_ONLY = sorted((FOLDER / "tcp").glob("*.xmpp"))
CASES = [(path, False) for path in BOTH + TCP_ONLY] + [(path, True) for path in BOTH]
SALT = b"0123456789abcdef"


def options(**changes: object) -> StreamOptions:
    values: dict[str, object] = {
        "domains": frozenset(("a.example",)),
        "default_domain": "a.example",
        "mechanisms": ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
        "downgrade_protection": False,
    }
    return StreamOptions(**{**values, **changes})  # type: ignore[arg-type]


def first_line_options(path: Path) -> tuple[dict[str, object], bool]:
    """``# options: name=value ...`` on the first line; ``secure`` is no option but the state of the connection."""
    first = path.read_text().splitlines()[0]
    found: dict[str, object] = {}
    secure = False
    if first.startswith("# options:"):
        for word in first.split(":", 1)[1].split():
            name, _, value = word.partition("=")
            if name == "secure":
                secure = True
            else:
                found[name] = (
                    tuple(value.split(",")) if name == "upgrades" else {"yes": True, "no": False}.get(value, value)
                )
    return found, secure


@pytest.mark.parametrize("path, is_websocket", CASES, ids=[f"{p.stem}-{'ws' if ws else 'tcp'}" for p, ws in CASES])
def test_transcript(path: Path, is_websocket: bool) -> None:
    changes, secure = first_line_options(path)
    framing = WebSocketFraming(XmlLimits()) if is_websocket else TcpFraming(XmlLimits())
    idle = float(str(changes.pop("idle", 0.0)))
    stream = ServerStream(
        framing,
        StreamLimits(idle_seconds=idle),
        options(**({"starttls": False} if is_websocket else {}), **changes),
        0.0,
        secure=secure,
        bindings={"tls-server-end-point": b"certificate"} if secure else {},
        make_id=lambda: "ID",
    )

    def verifier(password: str, hash_name: str = "SHA-256") -> None:
        stream.verifier(derive(password, SALT, 4096, hash_name))

    queue = SentQueue()

    def resumed(h: str, handled: str, *queued: str) -> None:
        for text in queued:
            queue.sent(SentItem(None, f"<message id='{text}'/>".encode()))
        stream.resumed(queue, int(h), int(handled))

    def send(text: str) -> None:
        data = f"<message id='{text}'/>".encode()
        if stream.queue is not None:
            stream.queue.sent(SentItem(None, data))
        stream.send(data)

    commands: dict[str, Callable[..., object]] = {
        "verifier": verifier,
        "bound": lambda jid: stream.bound(JID.parse(jid)),
        "password": lambda word: stream.password_result(word == "right"),
        "tls": lambda: stream.tls_established({"tls-server-end-point": b"certificate"}),
        "send": send,
        "handled": lambda position: stream.handled(int(position)),
        "enabled": lambda resume_id="", seconds="": stream.enabled(
            queue, resume_id or None, int(seconds) if seconds else None
        ),
        "resumed": resumed,
        "tokens": lambda *found: stream.tokens([token.encode() for token in found]),
        "issue": lambda token: stream.accept(IssuedToken(token, "2030-01-01T00:00:00Z")),
        "salts": lambda *names: stream.upgrades([Salt(name, b"salt-of-512-bits", 4096) for name in names]),
    }
    Script(stream, is_websocket, commands).run(read_transcript(path))
