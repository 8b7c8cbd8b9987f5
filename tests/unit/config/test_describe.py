import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from config import schema
from config.describe import EXAMPLE, REFERENCE, example_file, main, reference_page
from config.load import read_settings
from config.settings import LimitSettings, Settings

ROOT = Path(__file__).parents[3]


def test_the_example_file_and_the_page_are_fresh() -> None:
    hint = "stale: run `python -m config.describe`"
    assert (ROOT / EXAMPLE).read_text() == example_file(), hint
    assert (ROOT / REFERENCE).read_text() == reference_page(), hint


def test_a_setting_that_changed_makes_the_files_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference_page()
    schema.keys_of.cache_clear()
    declared = next(found for found in fields(LimitSettings) if found.name == "stanza_bytes")
    about = declared.metadata["about"]
    monkeypatch.setattr(declared, "metadata", {"about": replace(about, sentence="Another sentence.")})
    try:
        assert reference_page() != before
        assert (ROOT / REFERENCE).read_text() != reference_page()
    finally:
        schema.keys_of.cache_clear()


def test_the_example_file_is_the_defaults() -> None:
    settings = read_settings(example_file(), Path("/etc/parley/parley.toml"))
    for declared in fields(Settings):
        if declared.name not in ("domains", "tls", "data_dir", "storage", "federation"):
            default = declared.default_factory() if callable(declared.default_factory) else declared.default
            assert getattr(settings, declared.name) == default, declared.name


def test_every_commented_key_is_valid_too() -> None:
    text = re.sub(r"^#(?=[a-z\[])", "", example_file(), flags=re.MULTILINE)
    settings = read_settings(text, Path("/etc/parley/parley.toml"))
    assert settings.federation.peer[0].domain == "partner.example"
    assert settings.listen[0].port == 5222


def test_both_files_are_written_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "docs").mkdir()
    main(tmp_path)
    assert (tmp_path / EXAMPLE).read_text() == example_file()
    assert (tmp_path / REFERENCE).read_text() == reference_page()
