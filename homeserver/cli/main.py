"""The command `parley` and its sub-commands; each lives in a module of its own that is imported when it is used."""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import click

_COMMANDS: Final = {
    "localserve": ("localserve", "Two demonstration servers on this machine."),
    "quickstart": ("quickstart", "Write a configuration and make the first account."),
    "serve": ("serve", "Run the server."),
    "check": ("check", "Say what is wrong with the set-up and what to do."),
    "account": ("accounts", "Add, list, disable or delete accounts; set passwords and roles."),
    "invite": ("invites", "Invite people; make links that set a password."),
    "queue": ("queue", "Look at what waits for other servers."),
    "reports": ("reports", "Reports of spam and abuse."),
    "keys": ("keys", "List, rotate or revoke the signing keys of federation."),
    "live": ("live", "Show the frames of a WebSocket of the JSON API."),
    "bench": ("benchmarks", "Measure whole servers."),
    "test": ("testing", "Run the tests of this source tree."),
}


class _Lazy(click.Group):
    """Imports only the module of the command that is used: `parley --help` needs none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        # Modules make many objects that stay: the collector would look at all of them again and again.
        gc.disable()
        command = getattr(import_module(f"homeserver.cli.{_COMMANDS[cmd_name][0]}"), cmd_name)
        gc.freeze()
        gc.enable()
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in _COMMANDS.items()])


def _version() -> str:
    try:
        return version("parley")
    except PackageNotFoundError:
        return "from the source tree"


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="parley")
def parley() -> None:
    """Parley, a federated chat homeserver."""


def main() -> None:
    """Entry point of the console script."""
    parley(prog_name="parley")
