"""Words of texts and queries: one rule for both, no patterns, bounded."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.domain.errors import BadRequest
from homeserver.domain.search import MAX_PHRASES, MAX_QUERY, MAX_TEXT, MAX_WORD, Phrase, parse, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! x1", ["hello", "world", "x1"]),
        ("don't e-mail a_b", ["don", "t", "e", "mail", "a", "b"]),
        ("Café ÉCOLE Straße", ["cafe", "ecole", "strasse"]),
        ("привет МИР", ["привет", "мир"]),
        ("今日は晴れ", ["今", "日", "は", "晴", "れ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("안녕 세계", ["안녕", "세계"]),
        ("", []),
        ("?!… 🎉", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_query_is_words_phrases_and_beginnings() -> None:
    assert parse('tea "green Pot" suga*').phrases == (
        Phrase(("tea",)),
        Phrase(("green", "pot")),
        Phrase(("suga",), True),
    )
    assert parse('"never closed').phrases == (Phrase(("never", "closed")),)
    assert parse("e-mail").phrases == (Phrase(("e", "mail")),)


@pytest.mark.parametrize("text", ["", "  ", "?!", '""', "*", "a" * (MAX_QUERY + 1), "w " * (MAX_PHRASES + 1)])
def test_a_query_without_words_or_with_too_much_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse(text)


@given(st.text(max_size=300))
def test_words_hold_nothing_that_a_database_could_read_as_syntax(text: str) -> None:
    for word in words_of(text):
        assert 0 < len(word) <= MAX_WORD
        assert not set(word) & set(" \t\n'\"*():&|!<>\\^@-+{}\0")


@pytest.mark.parametrize("text", ["(a+)+$ " * 30, "a" * 100_000, "é" * 100_000, '"' * 200, "*" * 200, "日" * 100_000])
def test_s163_long_and_odd_texts_cost_what_their_length_is(text: str) -> None:
    begun = time.process_time()
    words_of(text)
    if len(text) <= MAX_QUERY:
        try:
            parse(text)
        except BadRequest:
            assert not words_of(text) or len(text.split()) > MAX_PHRASES
    assert time.process_time() - begun < 0.5
    assert sum(map(len, words_of(text))) <= MAX_TEXT
