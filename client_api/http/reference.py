"""``docs/http-api.md``, written from the endpoint declarations.

``python -m client_api.http.reference`` writes it; a test fails when it is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from client_api.http import frames
from client_api.http.administration import AdministrationEndpoints
from client_api.http.amendments import Amendments
from client_api.http.announcements import AnnouncementEndpoints
from client_api.http.auth import Auth
from client_api.http.blocks import Blocks
from client_api.http.broadcasts import BroadcastEndpoints
from client_api.http.calls import Calls
from client_api.http.conversations import Conversations
from client_api.http.directory import DirectoryEndpoints
from client_api.http.files import FileEndpoints
from client_api.http.invites import InviteEndpoints
from client_api.http.live_sessions import SessionEndpoints
from client_api.http.messages import Messages
from client_api.http.openapi import document
from client_api.http.presence import PresenceEndpoints
from client_api.http.privacy import PrivacyEndpoints
from client_api.http.profile import ProfileEndpoints
from client_api.http.push import PushEndpoints
from client_api.http.search import Searching
from client_api.http.seeds import Seeds
from client_api.http.server_info import ServerInfoEndpoints
from client_api.http.settings import SettingsEndpoints

PAGE: Final = Path(__file__).parents[2] / "docs" / "http-api.md"
CLIENT_FRAMES: Final = (
    frames.AuthFrame,
    frames.SendFrame,
    frames.AckFrame,
    frames.PresenceFrame,
    frames.PingFrame,
)
SERVER_FRAMES: Final = (
    frames.ReadyFrame,
    frames.MessageFrame,
    frames.SyncedFrame,
    frames.SentFrame,
    frames.ErrorFrame,
    frames.EphemeralFrame,
    frames.ContactFrame,
    frames.PongFrame,
)
GROUPS: Final = (
    Auth,
    InviteEndpoints,
    DirectoryEndpoints,
    AdministrationEndpoints,
    AnnouncementEndpoints,
    SessionEndpoints,
    ServerInfoEndpoints,
    Messages,
    BroadcastEndpoints,
    Conversations,
    Amendments,
    Searching,
    PresenceEndpoints,
    PushEndpoints,
    Calls,
    Blocks,
    PrivacyEndpoints,
    ProfileEndpoints,
    SettingsEndpoints,
    FileEndpoints,
    Seeds,
)
_INTRODUCTION: Final = """# JSON API

Written from the endpoint declarations by `python -m client_api.http.reference`. A running server has the same as
OpenAPI 3.1 under `/openapi.json`, and as a page to try it under `/docs`.

- Bodies are `application/json`. Members that are not documented are refused, so are repeated names, NaN, lone
  surrogates, NUL and nesting deeper than 64.
- `Authorization: Bearer TOKEN` with the access token of a login. It is valid for 15 minutes; the refresh token is good
  for one use and gives the next pair. A refresh token used twice logs its device out.
- Refusals are `application/problem+json` (RFC 9457). `type` is stable, `detail` is for people, `request_id` is in the log.
  429 says in `Retry-After` when to come back.
- A message has one integer: its id, and its position in the mailbox. Ids grow with time. An account is an address, or the
  integer `user_id` for accounts of this server.
- `client_id` is the idempotency key of the sending account: for a week the same id with the same content gives the same
  answer, with other content 409. Peers and XMPP clients see it as `<origin-id/>`.
- `xml` of a message is a list of elements, each as text: whatever has no member of its own.
- `replaces`, `retracts`, `reaction`, `displayed` and `delivered` of an event name another message by its `stanza_id`. A
  correction or retraction counts for messages of its own sender only: look for the id among those `from` the same bare
  address. `retracted` stands in a message that was taken back.
- 201 and the `sent` frame follow the write to disk.

## A conversation

    POST /v1/sessions        {"username": "alice", "password": "..."}
    201                      {"access_token": "...", "refresh_token": "...", "device_id": "...", ...}

    POST /v1/messages        {"to": "bob@example.net", "text": "hello", "client_id": "6f1c"}
    201                      {"message_id": 1763656800123456, "client_id": "6f1c", ...}
"""
_SOCKET: Final = """
## WebSocket

`GET /v1/ws`, text frames, one JSON object each. The first frame is `auth`, unless the request had an `Authorization`
header (then `?cursor=` and `?presence=` in the address). The server answers `ready`, sends what is missing after the
cursor, then `synced`, then what comes live. Every message comes once per socket and positions grow. Without a cursor it
begins at the position the device acknowledged last; for a new device, at what waits for the account. A client that does
not read is served from the mailbox again when it does.

Close codes: 1001 the server stops, 1008 policy, 1009 frame too large, 4400 bad frame, 4401 token wrong or revoked,
4408 no `auth` frame in 10 seconds, 4409 the device opened another socket.
"""


def page() -> str:
    """The whole page."""
    groups = [object.__new__(kind) for kind in GROUPS]
    made = document(groups, "0", "/")
    lines = [_INTRODUCTION, "## Endpoints\n", "| call | what it does | body or query | answer | refusals |"]
    lines.append("|---|---|---|---|---|")
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            lines.append(_row(method.upper(), path, operation, made["components"]["schemas"]))
    lines += [
        "",
        "Every call may also answer 400, 408, 421, 429 and 503; those with a token 401; those with a body 413, 415, those with a file 411.",
    ]
    lines += [_SOCKET, "| direction | frame | members | meaning |", "|---|---|---|---|"]
    for direction, kinds in (("client", CLIENT_FRAMES), ("server", SERVER_FRAMES)):
        lines += [_frame(direction, kind) for kind in kinds]
    return "\n".join(lines) + "\n"


def _row(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    given = ""
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        known = content.get("application/json")
        given = _members(known["schema"], schemas) if known else f"the file: {' or '.join(content)}"
    if queries := [found["name"] for found in operation.get("parameters", []) if found["in"] == "query"]:
        given += ("; " if given else "") + "?" + ", ".join(f"`{name}`" for name in queries)
    answers, refusals = [], []
    for status, response in operation["responses"].items():
        if status < "300":
            content = response.get("content", {}).get("application/json")
            answers.append(f"{status} {_members(content['schema'], schemas)}" if content else status)
        elif status not in ("400", "401", "408", "411", "413", "415", "421", "429", "503"):
            refusals.append(status)
    token = " (token)" if "security" in operation else ""
    return (
        f"| `{method} {path}` | {operation['summary']}{token} | {given} | {'; '.join(answers)} | {' '.join(refusals)} |"
    )


def _members(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    found = schemas[schema["$ref"].rpartition("/")[2]]
    required = found.get("required", [])
    return ", ".join(f"`{name}`" if name in required else f"`{name}`?" for name in found["properties"])


def _frame(direction: str, kind: Any) -> str:
    names = kind.__struct_encode_fields__
    meaning = (kind.__doc__ or "").partition("\n")[0]
    return f"| {direction} | `{kind.__struct_config__.tag}` | {', '.join(f'`{name}`' for name in names)} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page())
