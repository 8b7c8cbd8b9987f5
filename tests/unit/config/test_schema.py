import pytest

from config.declare import setting
from config.schema import keys_of, show_found, write_value
from config.settings import Settings


def test_every_default_reads_back_from_its_written_form() -> None:
    import tomllib

    def walk(kind: type) -> int:
        count = 0
        for key in keys_of(kind).values():
            if key.section is not None:
                count += walk(key.section)
            elif not key.is_required and key.default is not None:
                written = write_value(key.hint, key.default)
                assert key.convert(tomllib.loads(f"x = {written}")["x"]) == key.default, key.name
                count += 1
        return count

    assert walk(Settings) > 40


def test_a_setting_without_a_sentence_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="full stop"):
        setting(1, "")


def test_long_values_are_cut_in_messages() -> None:
    assert len(show_found("x" * 500)) == 60
    assert show_found({"a": 1}) == "a table"
