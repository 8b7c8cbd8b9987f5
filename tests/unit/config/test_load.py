from dataclasses import replace
from pathlib import Path

import pytest

from config.load import SettingsError, compare, load_settings, read_settings
from config.settings import Settings
from config.units import Rate

GOOD = """\
domains = ["Example.org"]
data_dir = "state"
[[tls.certificate]]
certificate_file = "cert.pem"
key_file = "/etc/key.pem"
"""
FILE = Path("/srv/parley/parley.toml")


def read(text: str) -> Settings:
    return read_settings(text, FILE)


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_values_get_their_types_and_paths_their_folder() -> None:
    settings = read(
        GOOD + '[limits]\nstanza_bytes = "1 MiB"\nresume_time = "5 minutes"\nlogins_per_account = "3 per hour"\n'
    )
    assert settings.domains == ("example.org",)
    assert settings.limits.stanza_bytes == 1024**2
    assert settings.limits.resume_time == 300.0
    assert settings.limits.logins_per_account == Rate(3, 3600.0)
    assert settings.data_dir == Path("/srv/parley/state")
    assert settings.storage.path == Path("/srv/parley/state/parley.db")
    assert settings.tls.certificate[0].certificate_file == Path("/srv/parley/cert.pem")
    assert settings.tls.certificate[0].key_file == Path("/etc/key.pem")


def test_without_listeners_the_three_usual_ones_are_there() -> None:
    assert [(listen.kind, listen.port) for listen in read(GOOD).listen] == [
        ("xmpp", 5222),
        ("xmpps", 5223),
        ("https", 443),
    ]


def test_an_unknown_key_names_the_nearest_of_its_section() -> None:
    assert problems(GOOD + "[limits]\n\nstanza_bites = 5\n") == [
        f"{FILE}:8: limits.stanza_bites: found an unknown key, expected a known key; did you mean `limits.stanza_bytes`?"
    ]


def test_a_key_in_the_wrong_section_names_the_right_one() -> None:
    assert problems(GOOD + "[log]\nscram_iterations = 5000\n") == [
        f"{FILE}:7: log.scram_iterations: found an unknown key, expected a known key; "
        "did you mean `accounts.scram_iterations`?"
    ]


def test_an_unknown_table_with_no_likeness_lists_what_there_is() -> None:
    (problem,) = problems(GOOD + "[zzzz]\n")
    assert problem.startswith(f"{FILE}:6: zzzz: found an unknown table, expected one of domains, data_dir, listen")


def test_every_problem_is_reported_at_its_line() -> None:
    assert problems(
        'data_dir = 5\n[accounts]\nregistration = "all"\nscram_iterations = 5\n[[listen]]\nkind = "xmpp"\nport = 70000\n'
    ) == [
        f'{FILE}: domains: found nothing, expected a list; each is a domain name such as "example.org"',
        f"{FILE}:1: data_dir: found 5, expected a path in quotes",
        f'{FILE}:3: accounts.registration: found "all", expected one of "closed", "invite", "open"',
        f"{FILE}:4: accounts.scram_iterations: found 5, expected a whole number from 4096 to 1000000",
        f"{FILE}:7: listen[1].port: found 70000, expected a whole number from 0 to 65535",
    ]


def test_a_missing_key_of_a_table_has_the_line_of_the_table() -> None:
    assert problems(GOOD + "[[federation.peer]]\nkeys = []\n") == [
        f'{FILE}:6: federation.peer[1].domain: found nothing, expected a domain name such as "example.org"'
    ]


def test_broken_toml_has_its_line() -> None:
    (problem,) = problems('domains = ["a"]\nport =\n')
    assert problem.startswith(f"{FILE}:2: syntax: found Invalid value")
    assert problems("a = '''")[0].startswith(f"{FILE}:1: syntax:")


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[tls]\ncertificate = 5", "tls.certificate", "an array of tables [[tls.certificate]]"),
        ("tls = 5", "tls", "a table [tls]"),
        ("[limits]\noff_on_loopback = 1", "limits.off_on_loopback", "true or false"),
        ("[archive]\npage_max = 5.5", "archive.page_max", "a whole number"),
        ("[federation]\nallow = 'x'", "federation.allow", "a list; each is a domain name"),
    ],
)
def test_wrong_types(text: str, key: str, expected: str) -> None:
    (problem,) = problems("domains = ['a.example']\n" + text)
    assert f": {key}: found " in problem
    assert expected in problem


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:secret@h/d\n")
    settings = read_settings(GOOD + '[storage]\nurl_file = "url"\n', tmp_path / "parley.toml")
    assert settings.storage.url == "postgresql://u:secret@h/d"
    for text in (
        '[storage]\nurl = "mysql://u:secret@h/d"',
        "[storage]\nurl = ['secret']",
        '[storage]\nurl_file = "none"',
    ):
        assert all("secret" not in line for line in problems(GOOD + text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="parley quickstart"):
        load_settings(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(SettingsError, match="byte 2 that is not UTF-8"):
        load_settings(tmp_path / "latin.toml")
    with pytest.raises(SettingsError, match="expected a readable file"):
        load_settings(tmp_path)


def test_a_comparison_tells_what_needs_a_restart() -> None:
    old = read(GOOD)
    new = replace(
        old,
        domains=("other.example",),
        log=replace(old.log, level="debug"),
        limits=replace(old.limits, stanza_bytes=20_000),
        tls=replace(old.tls, certificate=()),
    )
    changes = compare(old, new)
    assert changes.applied == ("tls.certificate", "log.level")
    assert changes.restart == ("domains", "limits.stanza_bytes")
    assert compare(old, old).applied == ()
