"""The pages of invitations: plain HTML without scripts, images or fonts of anybody else (XEP-0379 s3.3, XEP-0401 s5.2).

The token is in the path, so no page names where it was (Referrer-Policy), none is kept or found by search engines, and
the log has the pattern of the path only. A page uses nothing up: mail programs and messengers fetch links to preview
them.
"""

from __future__ import annotations

import base64
import hashlib
import io
from html import escape
from typing import Final

import segno
from aiohttp import web

from client_api.http.auth import time_text
from homeserver.domain.errors import Forbidden, NotAcceptable, RateLimited, ResourceConstraint
from homeserver.domain.invites import InviteKind
from homeserver.services.accounts import Accounts
from homeserver.services.invites import Invites, Offer
from homeserver.services.limits import Limit, Limits, address_key

CLIENTS: Final = (
    ("Android", "Conversations", "https://conversations.im/"),
    ("iPhone, iPad, Mac", "Monal", "https://monal-im.org/"),
    ("Linux", "Dino", "https://dino.im/"),
    ("Linux, Windows", "Gajim", "https://gajim.org/"),
)
MAX_PASSWORD: Final = 4096
_STYLE: Final = (
    "body{font-family:sans-serif;line-height:1.5;max-width:36em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "a.button,button{display:inline-block;padding:.6em 1.2em;border:0;border-radius:.3em;font-size:1em;"
    "color:#fff;background:#1d5fa8;text-decoration:none}"
    "code{word-break:break-all}label{display:block;margin:.8em 0}input{font-size:1em;padding:.3em}"
    "svg{max-width:16em;height:auto}.wrong{color:#a00}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Landing:
    """Serves ``/invite/{token}``."""

    def __init__(self, invites: Invites, accounts: Accounts, limits: Limits) -> None:
        self._invites = invites
        self._accounts = accounts
        self._limits = limits

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.get("/invite/{token}", self.show), web.post("/invite/{token}", self.set_password)]

    async def show(self, request: web.Request) -> web.Response:
        """The invitation, or that there is none."""
        self._admit(request, Limit.REQUEST_ADDRESS)
        offer = await self._invites.find(request.match_info["token"])
        if offer is None:
            return _gone()
        if offer.invitation.kind is InviteKind.PASSWORD:
            return _password_form(offer)
        return _invitation(offer)

    async def set_password(self, request: web.Request) -> web.Response:
        """Take the form of a link that sets a password. The token is the right to do so: there is no session to abuse."""
        self._admit(request, Limit.REQUEST_ADDRESS)
        token = request.match_info["token"]
        offer = await self._invites.find(token)
        if offer is None or offer.invitation.kind is not InviteKind.PASSWORD:
            return _gone()
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType
        if request.content_length is None or request.content_length > MAX_PASSWORD:
            raise web.HTTPRequestEntityTooLarge(MAX_PASSWORD, request.content_length or 0)
        form = await request.post()
        first, second = form.get("password"), form.get("again")
        if not isinstance(first, str) or first != second:
            return _password_form(offer, "The two passwords differ.", 422)
        self._admit(request, Limit.REGISTRATION)
        try:
            await self._accounts.reset_password(token, first)
        except (NotAcceptable, ResourceConstraint) as refusal:
            return _password_form(offer, f"{refusal.text[:1].upper()}{refusal.text[1:]}.", 422)
        except Forbidden:
            return _gone()
        return _page("Password changed", "<p>The new password is valid now. Log in with it on all your devices.</p>")

    def _admit(self, request: web.Request, kind: Limit) -> None:
        """Count one request. Raises `RateLimited`."""
        address = request.remote or ""
        if not self._limits.exempt(address):
            wait = self._limits.take(kind, address_key(address))
            if wait:
                raise RateLimited("too many requests", wait)


def _page(title: str, content: str, status: int = 200) -> web.Response:
    text = (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'><meta name='robots' content='noindex'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{content}</main></body></html>"
    )
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)


def _gone() -> web.Response:
    return _page(
        "This invitation is not valid",
        "<p>It was used, has expired, or was taken back. Ask for a new one.</p>",
        410,
    )


def _invitation(offer: Offer) -> web.Response:
    made = offer.invitation
    inviter = "" if offer.inviter is None else offer.inviter.jid.bare
    if made.kind is InviteKind.CONTACT:
        title = f"{inviter} invites you to chat"
    elif inviter:
        title = f"{inviter} invites you to {made.domain}"
    else:
        title = f"You are invited to {made.domain}"
    parts = [
        f"<p><a class='button' href='{escape(offer.uri)}'>Accept with an app on this device</a></p>",
        "<p>If nothing happens, install an app first and open this page again:</p><ul>",
        *(f"<li>{escape(system)}: <a href='{url}'>{escape(name)}</a></li>" for system, name, url in CLIENTS),
        "</ul><p>With the app on another device, scan this:</p>",
        _code(offer.uri),
        f"<p>Or open this address in the app: <code>{escape(offer.uri)}</code></p>",
    ]
    if made.kind is InviteKind.BOTH:
        parts.append(
            f"<p>You can use an account you have, or make a new one on {escape(made.domain)}; then {escape(inviter)} is "
            "your first contact.</p>"
        )
    if made.username:
        parts.append(f"<p>Your address will be {escape(made.username)}@{escape(made.domain)}.</p>")
    parts.append(f"<p>Valid until {time_text(made.expires)}.</p>")
    return _page(title, "".join(parts))


def _code(uri: str) -> str:
    out = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        out, kind="svg", scale=4, xmldecl=False, svgclass=None, lineclass=None, title="QR code", omitsize=False
    )
    return out.getvalue().decode()


def _password_form(offer: Offer, wrong: str = "", status: int = 200) -> web.Response:
    address = "" if offer.subject is None else offer.subject.jid.bare
    content = (
        (f"<p class='wrong'>{escape(wrong)}</p>" if wrong else "")
        + f"<form method='post'><p>For the account {escape(address)}. All devices must log in again.</p>"
        f"<input type='hidden' name='username' value='{escape(address)}' autocomplete='username'>"
        "<label>New password<br><input type='password' name='password' required autocomplete='new-password'></label>"
        "<label>Once more<br><input type='password' name='again' required autocomplete='new-password'></label>"
        "<p><button type='submit'>Set password</button></p></form>"
    )
    return _page("New password", content, status)
