"""`parley keys` on real key files."""

from pathlib import Path

from click.testing import CliRunner, Result

from homeserver.cli.main import parley
from tests.unit.cli.test_accounts import CONFIG


def run(config: Path, *arguments: str, text: str = "") -> Result:
    command, *rest = arguments
    return CliRunner().invoke(parley, ["keys", command, "--config", str(config), *rest], input=text)


def rows(config: Path, *arguments: str) -> list[list[str]]:
    done = run(config, "list", *arguments)
    assert done.exit_code == 0, done.output
    return [line.split("\t") for line in done.output.splitlines()]


def test_keys_are_listed_rotated_and_revoked(tmp_path: Path) -> None:
    config = tmp_path / "parley.toml"
    config.write_text(CONFIG)
    first, other = rows(config)
    assert (first[0], other[0]) == ("a.example", "b.example")
    assert first[2] == "signs now"
    assert first[5].startswith(f"{first[1]}:")
    assert run(config, "rotate", "a.example").exit_code == 0
    old, new = rows(config, "--domain", "a.example")
    assert (old[1], old[2], new[2]) == (first[1], "signs now", "signs later")
    assert old[4] != "to -"
    assert run(config, "revoke", "a.example", old[1], text="n\n").exit_code == 1
    done = run(config, "revoke", "a.example", old[1], "--yes")
    assert done.exit_code == 0, done.output
    after = rows(config, "--domain", "a.example")
    assert [row[2] for row in after] == ["ended", "signs later", "signs now"]
    assert after[2][1] in done.output
    assert rows(config, "--domain", "b.example") == [other]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    config = tmp_path / "parley.toml"
    config.write_text(CONFIG)
    for arguments, reason in (
        (("rotate", "c.example"), "c.example is not a domain of this server"),
        (("revoke", "a.example", "k", "--yes"), "a.example has no key k"),
    ):
        done = run(config, *arguments)
        assert done.exit_code == 1
        assert reason in done.output
