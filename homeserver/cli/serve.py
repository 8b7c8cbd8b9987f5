"""`parley serve`: the server process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from homeserver.cli.configuration import config_option, settings_or_exit
from homeserver.lifecycle import Lifecycle, Reloader, Supervisor, pause_collector, run_process, tune_interpreter
from homeserver.listeners import CertificateError, ListenError
from homeserver.storage.owner_lock import StoreInUse
from homeserver.telemetry import set_up_logging


@click.command()
@config_option
def serve(config: Path) -> None:
    """Run the server until SIGTERM or SIGINT; SIGHUP reads configuration and certificates again."""
    pause_collector()
    from federation.http.own_keys import KeyFileExposed
    from homeserver.app.server import build

    settings = settings_or_exit(config)
    set_up_logging(settings.log)
    os.umask(0o077)
    settings.data_dir.mkdir(parents=True, exist_ok=True)

    async def main() -> None:
        lifecycle = Lifecycle(Supervisor(os.environ), settle=tune_interpreter)
        reloader = Reloader(config, settings)
        reloader.subscribe(lambda new: set_up_logging(new.log))
        lifecycle.on_reload(reloader.reload)
        await lifecycle.run(lambda stack: build(settings, stack, lifecycle, reloader))

    try:
        run_process(main)
    except (CertificateError, KeyFileExposed, ListenError, StoreInUse) as error:
        click.echo(f"parley: {error}", err=True)
        sys.exit(os.EX_CONFIG)
