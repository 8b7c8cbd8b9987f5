"""One slixmpp client with OMEMO, a program of its own: what it needs is not among the packages of the tests.

Arguments: host, port, file with the trusted authority, JID, password, file for keys and sessions. Lines of JSON on standard
input are orders: ``{"order": "send", "to", "text"}``, ``{"order": "history", "with"}``, ``{"order": "stop"}``; events are lines
of JSON on standard output.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from omemo.storage import Just, Maybe, Nothing, Storage
from slixmpp import JID, ClientXMPP
from slixmpp.plugins import register_plugin
from slixmpp_omemo import XEP_0384, TrustLevel


def tell(event: str, **rest: Any) -> None:
    """One event."""
    print(json.dumps({"event": event, **rest}), flush=True)


class File(Storage):
    """Keys and sessions in a file of JSON, so that a device is the same after a new start."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    async def _load(self, key: str) -> Maybe[Any]:
        return Just(self._held[key]) if key in self._held else Nothing()

    async def _store(self, key: str, value: Any) -> None:
        self._held[key] = value
        self._path.write_text(json.dumps(self._held))

    async def _delete(self, key: str) -> None:
        self._held.pop(key, None)
        self._path.write_text(json.dumps(self._held))


class Omemo(XEP_0384):
    """Every device is trusted when it is first seen."""

    default_config = {**XEP_0384.default_config, "storage": None}

    @property
    def storage(self) -> Storage:
        """Where keys and sessions are."""
        return self.config["storage"]

    @property
    def _btbv_enabled(self) -> bool:
        return True

    async def _devices_blindly_trusted(self, blindly_trusted: Any, identifier: Any) -> None:
        tell("trusted", devices=sorted(device.device_id for device in blindly_trusted))

    async def _prompt_manual_trust(self, manually_trusted: Any, identifier: Any) -> None:
        manager = await self.get_session_manager()
        for device in manually_trusted:
            await manager.set_trust(device.bare_jid, device.identity_key, TrustLevel.TRUSTED.value)


register_plugin(Omemo)


class Client:
    """A device that tells what it reads."""

    def __init__(self, authority: str, jid: str, password: str, keys: Path) -> None:
        self.xmpp = ClientXMPP(jid, password)
        self.xmpp.ca_certs = authority
        for name in ("xep_0199", "xep_0280", "xep_0313", "xep_0334", "xep_0380"):
            self.xmpp.register_plugin(name)
        self.xmpp.register_plugin("xep_0384", {"storage": File(keys)}, module=sys.modules[__name__])
        self.xmpp.add_event_handler("session_start", self._begin)
        self.xmpp.add_event_handler("message", self._take)
        self.xmpp.add_event_handler("omemo_initialized", lambda _: tell("ready"))

    async def _begin(self, _event: object) -> None:
        await self.xmpp.get_roster()
        self.xmpp.send_presence()

    async def _take(self, stanza: Any) -> None:
        omemo = self.xmpp.plugin["xep_0384"]
        if not omemo.is_encrypted(stanza):
            tell("plain", sender=stanza["from"].bare, text=stanza["body"])
            return
        try:
            message, device = await omemo.decrypt_message(stanza)
        except Exception as error:  # noqa: BLE001 - the library raises of many kinds; the test is told
            tell("unreadable", text=repr(error))
            return
        tell("message", sender=stanza["from"].bare, text=message["body"], device=device.device_id)

    async def send(self, to: str, text: str) -> None:
        """Encrypt for all devices of somebody and send."""
        omemo = self.xmpp.plugin["xep_0384"]
        await omemo.refresh_device_lists({JID(to)}, force_download=True)
        stanza = self.xmpp.make_message(mto=JID(to), mbody=text, mtype="chat")
        stanza.set_from(self.xmpp.boundjid)
        encrypted, problems = await omemo.encrypt_message(stanza, JID(to))
        assert encrypted is not None, problems
        encrypted.send()
        tell("sent", text=text, problems=[repr(found) for found in problems])

    async def history(self, peer: str) -> None:
        """Read what the archive holds of a chat."""
        answer = await self.xmpp.plugin["xep_0313"].retrieve(with_jid=JID(peer))
        for found in answer["mam"]["results"]:
            await self._take(found["mam_result"]["forwarded"]["stanza"])
        tell("history")

    async def obey(self) -> None:
        """Until there are no more orders."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)
            if order["order"] == "send":
                await self.send(order["to"], order["text"])
            elif order["order"] == "history":
                await self.history(order["with"])
            else:
                break
        await self.xmpp.disconnect()
        tell("stopped")


async def main(host: str, port: str, authority: str, jid: str, password: str, keys: str) -> None:
    """Log in and obey."""
    client = Client(authority, jid, password, Path(keys))
    client.xmpp.connect(host, int(port))
    await client.obey()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
