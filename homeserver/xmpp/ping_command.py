"""A command that anybody here may run, to see that commands work."""

from homeserver.xmpp.commands import Call, Done, command
from homeserver.xmpp.feature import feature


@feature(xep=50, version="1.3.0")
class PingCommand:
    """The command ``ping``."""

    @command("ping", "Ping this server")
    async def ping(self, call: Call) -> Done:
        """Answers with a note."""
        return Done(f"Pong from {call.domain}")
