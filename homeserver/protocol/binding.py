"""A client stream from a proven account to a session: resource binding, Bind 2, resumption (RFC 6120 s7, XEP-0386,
XEP-0198 s5).

With SASL2 the requests came along with the login, and one ``<success/>`` answers them all (XEP-0388 s2.6.1). Else each
comes and is answered alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.protocol import features
from homeserver.protocol import namespaces as ns
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.jid import JID, InvalidJID, prepare_resource
from homeserver.protocol.stanza import DEFAULT_TYPES, IQ
from homeserver.protocol.stream import ProtocolMisuse, State, Stream, attribute
from homeserver.protocol.stream_events import (
    BindRequested,
    ClientState,
    Event,
    ResumeRequested,
    SmEnableRequested,
    UserAgent,
)
from homeserver.protocol.xml import Element, child, escape_text, serialise, text_of

_BIND_TAG: Final = f"{{{ns.BIND}}}bind"
_COUNTER_LIMIT: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Inline:
    """What a SASL2 client wants besides its login; ``tag`` None means no Bind 2."""

    tag: str | None = None
    wants_carbons: bool = False
    is_inactive: bool = False
    enable: SmEnableRequested | None = None
    resume: tuple[str, int] | None = None
    is_resume_malformed: bool = False


def inline_requests(request: Element) -> Inline:
    """Read them out of ``<authenticate/>``."""
    resume = child(request, ns.STREAM_MANAGEMENT, "resume")
    resumption = resume_wanted(resume) if resume is not None else None
    is_malformed = resume is not None and resumption is None
    bind = child(request, ns.BIND2, "bind")
    if bind is None:
        return Inline(resume=resumption, is_resume_malformed=is_malformed)
    enable = child(bind, ns.STREAM_MANAGEMENT, "enable")
    return Inline(
        text_of(bind, ns.BIND2, "tag") or "",
        child(bind, ns.CARBONS, "enable") is not None,
        child(bind, ns.CLIENT_STATE, "inactive") is not None,
        enable_wanted(enable) if enable is not None else None,
        resumption,
        is_malformed,
    )


def enable_wanted(element: Element) -> SmEnableRequested:
    """``<enable/>`` as a request (XEP-0198 s3)."""
    seconds = element.get("max", "")
    return SmEnableRequested(
        element.get("resume") in ("true", "1"), int(seconds) if seconds.isascii() and seconds.isdigit() else None
    )


def resume_wanted(element: Element) -> tuple[str, int] | None:
    """``previd`` and ``h`` of ``<resume/>``; None where they are no such thing."""
    h = counter(element.get("h", ""))
    previd = element.get("previd", "")
    return None if h is None or not previd else (previd, h)


def counter(text: str) -> int | None:
    """An unsigned 32-bit number, or None."""
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    value = int(text)
    return value if value < _COUNTER_LIMIT else None


class Binding:
    """The second half of the negotiation; actions are named in `stream.TABLE`."""

    def __init__(
        self, stream: Stream, options: StreamOptions, limits: StreamLimits, account: JID, events: list[Event]
    ) -> None:
        self.account = account
        self.jid: JID | None = None
        self.previd = ""
        self._stream = stream
        self._options = options
        self._limits = limits
        self.events = events
        self._inline: Inline | None = None  # set while one <success/> is still to answer everything
        self._data = ""
        self._user_agent: UserAgent | None = None
        self._iq_id = ""
        self._answers = ""  # what goes into <success/> beside the identity
        self._bound = ""  # what goes into <bound/>
        self._resuming = False
        self.is_inactive = False

    # -- requests

    def begin(self, data: str, inline: Inline, user_agent: UserAgent | None, answers: str = "") -> None:
        """Work off what came with a SASL2 login; ``data`` is the mechanism's last word in base64.

        ``answers`` is what success says besides, written out.
        """
        self._answers = answers
        self._inline = inline
        self._data = f"<additional-data>{data}</additional-data>" if data else ""
        self._user_agent = user_agent
        self._stream.state = State.BINDING
        if inline.resume is not None and self._options.stream_management:
            self._resuming = True
            self.previd = inline.resume[0]
            self.events.append(ResumeRequested(self.account, *inline.resume))
            return
        if inline.resume is not None:
            self._answers += failed("feature-not-implemented")
        elif inline.is_resume_malformed:
            self._answers += failed("bad-request")
        self._bind_inline()

    def _bind_inline(self) -> None:
        inline = self._inline
        assert inline is not None
        if inline.tag is None:
            self._succeed()
            return
        self.events.append(
            BindRequested(self.account, "", True, _tag(inline.tag), self._user_agent, inline.wants_carbons)
        )

    def bind(self, element: Element) -> None:
        """The only stanza that may come before a resource is bound (RFC 6120 s7)."""
        if element.tag != IQ or element.get("type") != "set" or len(element) != 1 or element[0].tag != _BIND_TAG:
            self.events.append(self._stream.fail("not-authorized", "bind a resource first"))
            return
        self._iq_id = element.get("id", "")
        wish = text_of(element[0], ns.BIND, "resource") or ""
        try:
            resource = prepare_resource(wish) if wish else ""
        except InvalidJID:
            self._refuse_bind("bad-request")
            return
        if len(resource.encode()) > self._limits.resource_bytes:
            self._refuse_bind("bad-request")
            return
        self._stream.state = State.BINDING
        self.events.append(BindRequested(self.account, resource, user_agent=self._user_agent))

    def resume(self, element: Element) -> None:
        """XEP-0198 s5."""
        wanted = resume_wanted(element)
        if wanted is None or not self._options.stream_management:
            self._stream.write(failed("bad-request" if wanted is None else "feature-not-implemented"))
            return
        self._stream.state = State.BINDING
        self._resuming = True
        self.previd = wanted[0]
        self.events.append(ResumeRequested(self.account, *wanted))

    def refuse_enable(self, _element: Element) -> None:
        """Stream management needs a bound resource (XEP-0198 s3)."""
        self._stream.write(failed("unexpected-request"))

    # -- answers

    def bound(self, jid: JID, extra: Sequence[Element]) -> bool:
        """The session has its address; returns whether the stream is ready (else stream management comes first)."""
        if self._stream.state is not State.BINDING or self._resuming or self.jid is not None:
            raise ProtocolMisuse("no resource was asked for")
        self.jid = jid
        inline = self._inline
        if inline is None:
            self._stream.write(
                f"<iq type='result'{attribute('id', self._iq_id)}><bind xmlns='{ns.BIND}'>"
                f"<jid>{escape_text(str(jid))}</jid></bind></iq>"
            )
            return True
        self._bound = "".join(serialise(part, ns.BIND2) for part in extra)
        if inline.enable is not None and not self._options.stream_management:
            self._bound += failed("feature-not-implemented")
        elif inline.enable is not None:
            self.events.append(inline.enable)
            return False
        self._succeed()
        return True

    def bind_failed(self, condition: str) -> None:
        """No resource for the client; with SASL2 the login stands and it may bind the old way."""
        if self._stream.state is not State.BINDING or self._resuming or self.jid is not None:
            raise ProtocolMisuse("no resource was asked for")
        if self._inline is not None:
            self._inline = Inline()
            self._succeed()
        else:
            self._refuse_bind(condition)

    def _refuse_bind(self, condition: str) -> None:
        kind = DEFAULT_TYPES[condition].value
        self._stream.write(
            f"<iq type='error'{attribute('id', self._iq_id)}><error type='{kind}'>"
            f"<{condition} xmlns='{ns.STANZA_ERRORS}'/></error></iq>"
        )
        self._stream.state = State.AUTHENTICATED

    def managed(self, answer: str, is_managed: bool) -> None:
        """``<enabled/>`` or ``<failed/>`` of a Bind 2 session; completes the login."""
        self._bound += answer
        self._succeed(is_managed)

    @property
    def is_enabling(self) -> bool:
        """Whether a Bind 2 session waits for stream management."""
        return self._inline is not None and self._inline.enable is not None and self.jid is not None

    def resumed(self, answer: str, jid: JID | None) -> None:
        """The old session goes on; there are no features then (XEP-0198 s9.2)."""
        self.demand_resuming()
        if self._inline is None:
            self._stream.write(answer)
        else:
            self._answers += answer
            self._write_success(str(jid or self.account))

    def resume_failed(self, answer: str) -> None:
        """The old session is gone; with SASL2 a new one is bound at once if that was asked for."""
        self.demand_resuming()
        self._resuming = False
        if self._inline is None:
            self._stream.write(answer)
            self._stream.state = State.AUTHENTICATED
        else:
            self._answers += answer
            self._bind_inline()

    def demand_resuming(self) -> None:
        """Raises `ProtocolMisuse` unless a resumption waits for its answer."""
        if self._stream.state is not State.BINDING or not self._resuming:
            raise ProtocolMisuse("no resumption was asked for")

    def _succeed(self, is_managed: bool = False) -> None:
        inline = self._inline
        assert inline is not None
        jid = self.jid
        if jid is not None:
            self._answers += f"<bound xmlns='{ns.BIND2}'>{self._bound}</bound>"
            if inline.is_inactive:
                self.events.append(ClientState(False))
        self._write_success(str(jid or self.account))
        self._stream.write_features(features.after_login(self._options, self._limits, jid is not None, is_managed))
        self._stream.state = State.BOUND if jid is not None else State.AUTHENTICATED
        self._inline = None

    def _write_success(self, identity: str) -> None:
        self._stream.write(
            f"<success xmlns='{ns.SASL2}'>{self._data}"
            f"<authorization-identifier>{escape_text(identity)}</authorization-identifier>{self._answers}</success>"
        )
        self._answers = ""


def failed(condition: str, h: int | None = None) -> str:
    """``<failed/>`` of stream management (XEP-0198 s6)."""
    known = "" if h is None else f" h='{h % _COUNTER_LIMIT}'"
    return f"<failed xmlns='{ns.STREAM_MANAGEMENT}'{known}><{condition} xmlns='{ns.STANZA_ERRORS}'/></failed>"


def _tag(text: str) -> str:
    """A tag that may stand in a resource: prepared, short, or nothing."""
    try:
        return prepare_resource(text.strip()[:64]) if text.strip() else ""
    except InvalidJID:
        return ""
