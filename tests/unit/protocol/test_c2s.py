"""ServerStream where a transcript does not reach: SCRAM, packet sizes, misuse, memory, random input."""

import base64
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol.c2s import IDLE_SECONDS, SETTLE_SECONDS, ServerStream
from homeserver.protocol.document import parse_document
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import TcpFraming, WebSocketFraming
from homeserver.protocol.jid import JID
from homeserver.protocol.scram import decoy_verifier, derive
from homeserver.protocol.sm import SentItem, SentQueue
from homeserver.protocol.stream import ProtocolMisuse, State
from homeserver.protocol.stream_events import (
    Authenticated,
    BindRequested,
    Event,
    PasswordPresented,
    StanzaReceived,
    StreamFailed,
    StreamOpened,
    TlsRequested,
    VerifierNeeded,
)
from homeserver.protocol.xml_input import XmlFault, XmlLimits
from tests.kit.client_stream import ScramClient

HEADER = b"<?xml version='1.0'?><stream:stream to='a.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
BINDINGS = {"tls-server-end-point": b"certificate"}
OPTIONS = StreamOptions(frozenset(("a.example",)), "a.example")
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>%s</bind></iq>"
PLAIN = f"<auth xmlns='{SASL}' mechanism='PLAIN'>AHJvbWVvAHBlbmNpbA==</auth>".encode()


def opened(secure: bool = True, options: StreamOptions = OPTIONS) -> ServerStream:
    stream = ServerStream(
        TcpFraming(XmlLimits()), StreamLimits(), options, 0.0, secure=secure, bindings=BINDINGS if secure else {}
    )
    assert isinstance(stream.receive(HEADER, 0.0)[0], StreamOpened)
    stream.data_to_send()
    return stream


def bound() -> ServerStream:
    stream = opened()
    stream.receive(PLAIN, 0.0)
    stream.password_result(True)
    stream.accept()
    stream.receive(HEADER, 0.0)
    stream.receive(BIND % b"", 0.0)
    stream.bound(JID.parse("romeo@a.example/x"))
    stream.data_to_send()
    return stream


def element_text(data: bytes) -> bytes:
    return base64.b64decode(parse_document(data, XmlLimits()).text or "")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
def test_scram_login(mechanism: str) -> None:
    stream = opened()
    binding = ("tls-server-end-point", b"certificate") if mechanism.endswith("-PLUS") else None
    client = ScramClient(mechanism, "romeo", "pencil", binding)
    first = base64.b64encode(client.first()).decode()
    events = stream.receive(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{first}</auth>".encode(), 0.0)
    wanted = events[0]
    assert isinstance(wanted, VerifierNeeded)
    stream.verifier(derive("pencil", b"s" * 16, 4096, wanted.hash_name))
    challenge = element_text(stream.data_to_send())
    assert b",h=" in challenge  # XEP-0474
    final = base64.b64encode(client.final(challenge)).decode()
    events = stream.receive(f"<response xmlns='{SASL}'>{final}</response>".encode(), 0.0)
    done = events[0]
    assert isinstance(done, Authenticated)
    assert done.is_bound is mechanism.endswith("-PLUS")
    stream.accept()
    client.check(element_text(stream.data_to_send()))


def test_unknown_user_gets_the_same_challenge_every_time() -> None:  # S-41
    challenges = set()
    for _ in range(3):
        stream = ServerStream(
            TcpFraming(XmlLimits()), StreamLimits(), OPTIONS, 0.0, secure=True, make_id=lambda: "nonce"
        )
        stream.receive(HEADER, 0.0)
        stream.data_to_send()
        message = base64.b64encode(b"n,,n=nobody,r=x").decode()
        stream.receive(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{message}</auth>".encode(), 0.0)
        stream.verifier(decoy_verifier(b"key", "nobody", 4096, "SHA-1"))
        challenges.add(element_text(stream.data_to_send()))
    assert len(challenges) == 1


SESSION = [HEADER, PLAIN, HEADER, BIND % b"", b"<presence/> <message to='b@a.example'><body>x</body></message>"]


def answer(stream: ServerStream, events: list[Event], log: list[str]) -> None:
    for event in events:
        log.append(type(event).__name__)
        if isinstance(event, PasswordPresented):
            stream.password_result(True)
        elif isinstance(event, Authenticated):
            stream.accept()
        elif isinstance(event, BindRequested):
            stream.bound(event.account.with_resource("x"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_packet_sizes_make_no_difference(size: int) -> None:  # S-25
    def play(cut: Callable[[bytes], list[bytes]]) -> tuple[list[str], bytes]:
        stream = ServerStream(TcpFraming(XmlLimits()), StreamLimits(), OPTIONS, 0.0, secure=True, make_id=lambda: "ID")
        log: list[str] = []
        for part in SESSION:
            for piece in cut(part):
                answer(stream, stream.receive(piece, 0.0), log)
        return log, stream.data_to_send()

    whole = play(lambda part: [part])
    assert whole[0].count("StanzaReceived") == 2
    assert play(lambda part: [part[i : i + size] for i in range(0, len(part), size)]) == whole


def test_direct_answers_while_iterating() -> None:
    stream = opened()
    log: list[str] = []
    answer(stream, stream.receive(PLAIN, 0.0), log)
    assert log == ["PasswordPresented", "Authenticated"]


@pytest.mark.parametrize(
    "command",
    [
        lambda s: s.start_tls(),
        lambda s: s.tls_established({}),
        lambda s: s.tls_refused(),
        lambda s: s.verifier(decoy_verifier(b"key", "nobody", 4096, "SHA-1")),
        lambda s: s.tokens(()),
        lambda s: s.upgrades(()),
        lambda s: s.upgraded(),
        lambda s: s.password_result(True),
        lambda s: s.accept(),
        lambda s: s.reject("not-authorized"),
        lambda s: s.bound(JID.parse("a@a.example/x")),
        lambda s: s.bind_failed("conflict"),
        lambda s: s.enabled(SentQueue()),
        lambda s: s.sm_failed("internal-server-error"),
        lambda s: s.resumed(SentQueue(), 0, 0),
        lambda s: s.resume_failed("item-not-found"),
        lambda s: s.handled(1),
    ],
)
def test_commands_out_of_turn_are_misuse(command: Callable[[ServerStream], object]) -> None:
    for stream in (opened(), bound()):
        with pytest.raises(ProtocolMisuse):
            command(stream)


def test_second_answer_is_misuse() -> None:
    stream = opened()
    stream.receive(PLAIN, 0.0)
    with pytest.raises(ProtocolMisuse):
        stream.accept()
    stream.password_result(True)
    with pytest.raises(ProtocolMisuse):
        stream.password_result(True)


def test_nothing_but_responses_while_logging_in() -> None:
    for data in (b"<presence/>", PLAIN, b"<iq type='get' id='1'><q xmlns='u'/></iq>"):
        stream = opened()
        stream.receive(PLAIN, 0.0)
        failed = stream.receive(data, 0.0)[-1]
        assert isinstance(failed, StreamFailed)
        assert stream.is_closed


def test_a_handshake_asked_for_in_a_failing_packet_is_void() -> None:  # S-30
    options = StreamOptions(frozenset(("a.example",)), "a.example")
    starttls = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    for behind in (b"<presence/>", b"<", b"text", b"<!-- c -->", starttls, b"</stream:stream>"):
        stream = opened(secure=False, options=options)
        events = stream.receive(starttls + behind, 0.0)
        assert not any(isinstance(event, TlsRequested) for event in events)
        assert stream.is_closed
    stream = opened(secure=False, options=options)
    assert isinstance(stream.receive(starttls + b" \n", 0.0)[0], TlsRequested)
    assert isinstance(stream.receive(b"<presence/>", 0.0)[0], StreamFailed)


def test_resources() -> None:  # S-47
    for wish, allowed in ((b"home", True), (b"x" * 1024, False), (b"a\xe2\x80\x8bb", False)):
        stream = opened()
        stream.receive(PLAIN, 0.0)
        stream.password_result(True)
        stream.accept()
        stream.receive(HEADER, 0.0)
        stream.data_to_send()
        events = stream.receive(BIND % (b"<resource>" + wish + b"</resource>"), 0.0)
        assert bool(events) is allowed
        assert (b"bad-request" in stream.data_to_send()) is not allowed


def test_limits_rise_with_the_login() -> None:  # S-13, S-16
    big = b"<message to='b@a.example'><body>" + b"x" * 20_000 + b"</body></message>"
    assert isinstance(opened().receive(big, 0.0)[-1], StreamFailed)
    assert isinstance(bound().receive(big, 0.0)[-1], StanzaReceived)
    stream = bound()
    failed = stream.receive(b"<message><body>" + b"x" * 300_000, 0.0)[-1]
    assert failed == StreamFailed("policy-violation", "stanza is too long")


def test_what_came_before_a_fault_is_delivered() -> None:
    stream = bound()
    events = stream.receive(b"<message/><message><body>&bad;</body></message>", 0.0)
    assert [type(event) for event in events] == [StanzaReceived, StreamFailed]
    assert stream.data_to_send().endswith(b"</stream:error></stream:stream>")
    assert stream.receive(b"<message/>", 0.0) == []


def test_noise_is_not_reflected() -> None:  # S-20
    for noise in (b"GET /secret HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0" * 100):
        stream = ServerStream(TcpFraming(XmlLimits()), StreamLimits(), OPTIONS, 0.0)
        assert isinstance(stream.receive(noise, 0.0)[0], StreamFailed)
        assert b"secret" not in stream.data_to_send()


def test_a_silent_stream_gives_its_parser_back() -> None:
    stream = bound()
    assert stream._negotiation is None
    assert stream.next_deadline() == SETTLE_SECONDS
    assert stream.check_deadline(SETTLE_SECONDS) == []
    assert not stream.framing.is_awake
    later = stream.next_deadline()
    assert later is not None
    assert later > 2 * IDLE_SECONDS
    assert isinstance(stream.receive(b"<presence/>", 1000.0)[0], StanzaReceived)
    assert stream.next_deadline() == 1000.0 + IDLE_SECONDS


def test_an_idle_stream_is_small() -> None:
    stream = bound()
    stream.framing.idle()
    seen: set[int] = set()

    def size(value: object) -> int:
        if id(value) in seen or isinstance(value, type | StreamLimits | XmlLimits | StreamOptions):
            return 0
        seen.add(id(value))
        total = sys.getsizeof(value)
        for kind in type(value).__mro__:
            for name in getattr(kind, "__slots__", ()):
                total += size(getattr(value, name, None))
        return total

    assert size(stream) < 3000


def test_deadline_ends_with_binding_and_closing_has_one() -> None:
    assert opened().next_deadline() == 60.0
    stream = bound()
    stream.close()
    assert stream.state is State.CLOSING
    assert stream.next_deadline() == 5.0
    assert len(stream.check_deadline(5.0)) == 1
    assert stream.is_closed
    assert stream.next_deadline() is None


def test_h_counts_only_what_is_contiguous() -> None:
    stream = bound()
    stream.receive(b"<enable xmlns='urn:xmpp:sm:3'/>", 0.0)
    stream.enabled(SentQueue())
    stream.receive(b"<message/>" * 4, 0.0)
    for position, expected in ((3, 0), (2, 0), (1, 3), (4, 4)):
        stream.handled(position)
        assert stream.handled_count == expected
    with pytest.raises(ProtocolMisuse):
        stream.handled(4)
    with pytest.raises(ProtocolMisuse):
        stream.handled(5)


def test_resumed_stream_counts_on_across_the_wrap() -> None:
    stream = opened()
    stream.receive(PLAIN, 0.0)
    stream.password_result(True)
    stream.accept()
    stream.receive(HEADER, 0.0)
    stream.receive(b"<resume xmlns='urn:xmpp:sm:3' previd='p&apos;' h='0'/>", 0.0)
    stream.data_to_send()
    queue = SentQueue()
    queue.sent(SentItem(5, b"<message/>"))
    assert stream.resumed(queue, 0, (1 << 32) - 1) == []
    sent = stream.data_to_send()
    assert sent.startswith(b"<resumed xmlns='urn:xmpp:sm:3' h='4294967295' previd='p&apos;'/><message/>")
    event = stream.receive(b"<message/>", 0.0)[0]
    assert isinstance(event, StanzaReceived)
    stream.handled(event.position)
    stream.acknowledge()
    assert stream.data_to_send() == b"<a xmlns='urn:xmpp:sm:3' h='0'/>"


def test_resume_with_too_high_a_count_fails() -> None:  # S-81
    stream = opened()
    stream.receive(PLAIN, 0.0)
    stream.password_result(True)
    stream.accept()
    stream.receive(HEADER, 0.0)
    events = stream.receive(b"<resume xmlns='urn:xmpp:sm:3' previd='p' h='9'/>", 0.0)
    assert stream.resumed(SentQueue(), 9, 0) is None
    assert isinstance(events[-1], StreamFailed)


def test_websocket_messages() -> None:
    stream = ServerStream(WebSocketFraming(XmlLimits()), StreamLimits(), OPTIONS, 0.0, secure=True)
    stream.receive(b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a.example' version='1.0'/>", 0.0)
    for message in stream.messages_to_send():
        parse_document(message, XmlLimits())
    stream.close("system-shutdown")
    error, footer = stream.messages_to_send()
    assert parse_document(error, XmlLimits()).tag == "{http://etherx.jabber.org/streams}error"
    assert footer == b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([*SESSION, b"<r xmlns='urn:xmpp:sm:3'/>", b"<a xmlns='urn:xmpp:sm:3' h='x'/>", b"</stream:stream>"]),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_no_input_raises(parts: list[bytes]) -> None:
    stream = ServerStream(TcpFraming(XmlLimits()), StreamLimits(), OPTIONS, 0.0, secure=True)
    for part in parts:
        answer(stream, stream.receive(part, 0.0), [])
        stream.data_to_send()


def test_faults_of_the_parser_are_not_exceptions_here() -> None:
    assert issubclass(XmlFault, Exception)
    stream = bound()
    assert isinstance(stream.receive(b"</nothing>", 0.0)[0], StreamFailed)
