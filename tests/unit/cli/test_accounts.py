"""`parley account` on a real database file."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.load import load_settings
from homeserver.cli.accounts import open_accounts
from homeserver.cli.main import parley
from homeserver.domain.errors import NotAuthorized

CONFIG = "domains = ['a.example', 'b.example']\n[[listen]]\nkind = 'https'\nport = 1\nhost = '::1'\ntls = 'optional'\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "parley.toml"
    path.write_text(CONFIG)
    return path


def run(config: Path, *arguments: str, text: str = "") -> Result:
    command, *rest = arguments
    return CliRunner().invoke(parley, ["account", command, "--config", str(config), *rest], input=text)


async def can_log_in(config: Path, bare: str, password: str) -> bool:
    async with open_accounts(load_settings(config)) as accounts:
        try:
            await accounts.check_password(bare, password)
        except NotAuthorized:
            return False
        return True


def test_the_life_of_an_account(config: Path) -> None:
    import asyncio

    made = run(config, "add", "Alice@A.example", "--role", "admin")
    assert made.output.startswith("account alice@a.example made, password ")
    password = made.output.split()[-1]
    assert asyncio.run(can_log_in(config, "alice@a.example", password))
    assert (
        run(config, "add", "bob@b.example", "--password-stdin", text="correct horse\n").output
        == "account bob@b.example made\n"
    )
    rows = [line.split("\t") for line in run(config, "list").output.splitlines()]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("alice@a.example", "active", "admin"),
        ("bob@b.example", "active", "member"),
    ]
    assert run(config, "list", "--domain", "b.example").output.startswith("bob@b.example\t")
    assert run(config, "password", "bob@b.example", "--password-stdin", text="another horse\n").exit_code == 0
    assert asyncio.run(can_log_in(config, "bob@b.example", "another horse"))
    assert run(config, "disable", "bob@b.example").exit_code == 0
    assert not asyncio.run(can_log_in(config, "bob@b.example", "another horse"))
    assert run(config, "disable", "--undo", "bob@b.example").exit_code == 0
    assert asyncio.run(can_log_in(config, "bob@b.example", "another horse"))
    assert run(config, "delete", "bob@b.example", text="n\n").exit_code == 1
    assert run(config, "delete", "bob@b.example", "--yes").exit_code == 0
    assert "bob" not in run(config, "list").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "alice"), "is not of the form name@domain"),
        (("add", "a b@a.example"), "is not an address"),
        (("add", "alice@c.example"), "this domain is not served here"),
        (("disable", "nobody@a.example"), "no such account"),
        (("password", "nobody@a.example"), "no such account"),
    ],
)
def test_mistakes_are_told_in_one_line(config: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(config, *arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_broken_configuration_is_told_with_its_line(config: Path) -> None:
    config.write_text("domains = 5\n")
    result = run(config, "list")
    assert result.exit_code == 78
    assert f"{config}:1: domains: found 5" in result.output


def test_many_accounts_from_a_file(config: Path) -> None:
    import asyncio

    made = run(config, "add", "--from-file", "-", text="ann@a.example correct horse\n\nbob@b.example battery staple\n")
    assert made.output == "account ann@a.example made\naccount bob@b.example made\n"
    assert asyncio.run(can_log_in(config, "ann@a.example", "correct horse"))


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (("--from-file", "-"), "ann@a.example\n", "line 1 is not of the form"),
        (("--from-file", "-"), "\na b@c pass\n", "line 2 is not of the form"),
        (("--from-file", "-", "ann@a.example"), "", "give an address, or --from-file"),
        ((), "", "give an address, or --from-file"),
    ],
)
def test_a_file_that_is_no_list_of_accounts(config: Path, arguments: tuple[str, ...], text: str, message: str) -> None:
    refused = run(config, "add", *arguments, text=text)
    assert refused.exit_code
    assert message in refused.output
    assert not run(config, "list").output
