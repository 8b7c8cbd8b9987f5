"""External service discovery (XEP-0215): STUN and TURN servers for calls."""

from datetime import UTC, datetime

from homeserver.domain.errors import BadRequest, Forbidden, NotFound
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, child, element
from homeserver.services.external_services import ExternalService, ExternalServices
from homeserver.xmpp.feature import Addressee, IqRequest, feature, on_iq

MAX_PORT = 65_535


@feature(xep=215, version="1.0.0", disco=(ns.EXTERNAL_SERVICES,))
class ExternalServiceDiscovery:
    """Answers accounts of this server only: credentials cost the operator's traffic."""

    services: ExternalServices

    @on_iq("get", ns.EXTERNAL_SERVICES, "services", to=Addressee.DOMAIN)
    async def all(self, request: IqRequest) -> Element | None:
        """XEP-0215 s3.1, s3.2: all, or those of a type."""
        kind = request.payload.get("type")
        found = self._offered(request, kind)
        return element(
            ns.EXTERNAL_SERVICES, "services", {"type": kind} if kind is not None else None, *map(_service, found)
        )

    @on_iq("get", ns.EXTERNAL_SERVICES, "credentials", to=Addressee.DOMAIN)
    async def credentials(self, request: IqRequest) -> Element | None:
        """XEP-0215 s3.3."""
        wanted = child(request.payload, ns.EXTERNAL_SERVICES, "service")
        if wanted is None or not wanted.get("host") or not wanted.get("type"):
            raise BadRequest("host and type of the service are needed")
        found = self._offered(request, wanted.get("type"), wanted.get("host"), _port(wanted.get("port")))
        if not found:
            raise NotFound("no such service")
        return element(ns.EXTERNAL_SERVICES, "credentials", None, *map(_service, found))

    def _offered(
        self, request: IqRequest, kind: str | None = None, host: str | None = None, port: int | None = None
    ) -> list[ExternalService]:
        if request.session is None:
            raise Forbidden("for accounts of this server")
        return self.services.offered(request.session.account, kind, host, port)


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > MAX_PORT:
        raise BadRequest("not a port")
    return int(text)


def _service(found: ExternalService) -> Element:
    attributes = {"type": found.type, "host": found.host, "port": str(found.port), "transport": found.transport}
    if found.username is not None and found.password is not None and found.expires is not None:
        attributes["username"] = found.username
        attributes["password"] = found.password
        attributes["expires"] = datetime.fromtimestamp(found.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        attributes["restricted"] = "true"
    return element(ns.EXTERNAL_SERVICES, "service", attributes)
