"""The listeners."""

from client_api.http.app import HttpServer
from client_api.xmpp.component import ComponentFace
from client_api.xmpp.connection import Connection, Wire
from client_api.xmpp.face import XmppFace
from client_api.xmpp.tcp import ReceiveBuffer, TcpConnection, Tls
from config.settings import ListenSettings, Settings
from homeserver.listeners import ALPN_HTTP, ALPN_XMPP, Certificates, Listener
from homeserver.protocol.framing import TcpFraming
from homeserver.protocol.xml_input import XmlLimits


def build_listeners(
    settings: Settings, face: XmppFace, components: ComponentFace, https: HttpServer, certificates: Certificates
) -> list[Listener]:
    """The ports."""
    buffer = ReceiveBuffer()

    def listener(entry: ListenSettings) -> Listener:
        if entry.kind == "https":
            return Listener(entry, https.connection, certificates, ALPN_HTTP)
        if entry.kind == "component":
            tls = Tls(certificates)
            return Listener(entry, lambda: TcpConnection(components.connect, buffer, tls), certificates)
        return xmpp_listener(entry, face, buffer, certificates)

    return [listener(entry) for entry in settings.listen]


def xmpp_listener(entry: ListenSettings, face: XmppFace, buffer: ReceiveBuffer, certificates: Certificates) -> Listener:
    """A port for XMPP clients."""
    direct = entry.kind == "xmpps" or entry.tls == "direct"
    tls = Tls(certificates, ALPN_XMPP if direct else ())
    options = face.options(cleartext_ok=entry.tls == "optional", starttls=not direct and bool(certificates.identities))

    def connect(wire: Wire, address: str, bindings: dict[str, bytes] | None) -> Connection:
        return face.connect(wire, address, bindings, TcpFraming(XmlLimits()), options)

    return Listener(entry, lambda: TcpConnection(connect, buffer, tls), certificates, ALPN_XMPP)
