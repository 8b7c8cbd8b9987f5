"""What others look for at fixed places: host-meta (XEP-0156, RFC 6415), health, readiness, metrics."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web

from client_api.http.app import OPEN_TO_ALL
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import element, serialise

Link = tuple[str, str]
"""Relation and address."""
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class WellKnown:
    """``links`` are relation and href; ``ready`` says why the server is not, or None; ``metrics`` the text of the numbers.

    Peers in ``metrics_networks`` (CIDR) may read the metrics; to others the path does not exist.
    """

    def __init__(
        self,
        links: Sequence[Link],
        ready: Callable[[], Awaitable[str | None]],
        metrics: Callable[[], Awaitable[bytes]],
        metrics_networks: Sequence[str],
    ) -> None:
        self._ready = ready
        self._metrics = metrics
        self._networks = [ipaddress.ip_network(network) for network in metrics_networks]
        made = [element(ns.XRD, "Link", {"rel": rel, "href": href}) for rel, href in links]
        self._xml = ("<?xml version='1.0' encoding='utf-8'?>" + serialise(element(ns.XRD, "XRD", None, *made))).encode()
        self._json = msgspec.json.encode({"links": [{"rel": rel, "href": href} for rel, href in links]})

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/.well-known/host-meta", self.host_meta),
            web.get("/.well-known/host-meta.json", self.host_meta_json),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    async def host_meta(self, _request: web.Request) -> web.Response:
        """XEP-0156 s3, as XML."""
        return _public(web.Response(body=self._xml, content_type="application/xrd+xml", charset="utf-8"))

    async def host_meta_json(self, _request: web.Request) -> web.Response:
        """XEP-0156 s3, as JSON."""
        return _public(web.Response(body=self._json, content_type="application/json"))

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process answers."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """The server can do its work: its store answers."""
        why = await self._ready()
        return web.Response(text="ok\n" if why is None else f"{why}\n", status=200 if why is None else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """The numbers, for those who may read them."""
        try:
            address = ipaddress.ip_address((request.remote or "").partition("%")[0])
        except ValueError:
            raise web.HTTPNotFound from None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not any(address in network for network in self._networks if network.version == address.version):
            raise web.HTTPNotFound
        return web.Response(body=await self._metrics(), headers={"Content-Type": _OPENMETRICS})


def _public(response: web.Response) -> web.Response:
    response[OPEN_TO_ALL] = True
    response.headers["Cache-Control"] = "max-age=3600"
    return response


def links(public_url: str, federation: str | None) -> list[Link]:
    """The links of a server at ``public_url``; ``federation`` is the base of its federation API or None."""
    base = public_url.rstrip("/")
    found = [(ns.XMPP_WEBSOCKET_LINK, "ws" + base.removeprefix("http") + "/xmpp-websocket"), (ns.PARLEY_JSON, base)]
    if federation is not None:
        found.append((ns.PARLEY_FEDERATION, federation))
    return found
