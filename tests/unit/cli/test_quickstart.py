import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.load import load_settings
from homeserver.cli.accounts import open_accounts
from homeserver.cli.main import parley
from homeserver.domain.accounts import Role
from homeserver.listeners import Certificates


def test_one_command_makes_a_working_set_up(tmp_path: Path) -> None:
    result = CliRunner().invoke(parley, ["quickstart", "You@Example.org", "--dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    settings = load_settings(tmp_path / "parley.toml")
    assert settings.domains == ("example.org",)
    assert Certificates(settings.tls).identities[0].covers("groups.example.org")
    password = result.output.split("Password:")[1].split()[0]

    async def log_in() -> Role:
        async with open_accounts(settings) as accounts:
            return (await accounts.check_password("you@example.org", password)).role

    assert asyncio.run(log_in()) is Role.ADMIN
    for record in (
        "example.org. IN A <IPv4 address of this server>",
        "groups.example.org. IN CNAME example.org.",
        "_xmpp-client._tcp.example.org. IN SRV 0 5 5222 example.org.",
        "_xmpps-client._tcp.example.org. IN SRV 0 5 5223 example.org.",
    ):
        assert record in result.output


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "parley.toml").write_text("mine")
    result = CliRunner().invoke(parley, ["quickstart", "you@example.org", "--dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "is there already" in result.output
    assert (tmp_path / "parley.toml").read_text() == "mine"


@pytest.mark.parametrize("address", ["example.org", "you@", "you@example.org/phone", "you@-"])
def test_no_address_no_set_up(tmp_path: Path, address: str) -> None:
    result = CliRunner().invoke(parley, ["quickstart", address, "--dir", str(tmp_path)])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []
