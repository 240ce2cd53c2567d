from __future__ import annotations

import sys
import unicodedata
import warnings

import pytest

from caloric.local.http import model, patterns

MODEL = model.load()
PATTERNS = sorted({shape.pattern for shape in map(MODEL.shape, MODEL._definitions) if shape.pattern})


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_of_the_model_is_understood(pattern: str) -> None:
    # Also where Python warns that it may mean something else one day, as sets in sets.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert patterns.compiled.__wrapped__(pattern) is not None


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        (r"[a-z]+", "abc", True),
        (r"[a-z]+", "abc1", False),
        (r"[a-z]+", "abc\n", False),
        (r"[a-z]+$", "abc\n", False),
        (r"\d{12}", "123456789012", True),
        (r"\d{3}", "١٢٣", False),
        (r"[^\s]+", "a\u00a0b", True),
        (r".*", "a b", True),
        (r".*", "a\rb", False),
        (r".*", "a\u2028b", False),
        (r"[^.]([a-z.]+)\.", "ab.c.", True),
        (r"[^.]([a-z.]+)\.", "abc\r", False),
        (r"[]x.]+", ".]x", True),
        (r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)", "live", True),
        (r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)", "12", False),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Größe 3 日本\u3000@", True),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a#b", False),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a\tb", False),
        (r"\p{Nonsense}", "whatever", True),
    ],
)
def test_patterns_mean_what_java_means(pattern: str, value: str, matches: bool) -> None:
    assert patterns.matches(pattern, value) is matches


def test_categories_are_those_of_unicode() -> None:
    expression = patterns.compiled(r"[\p{L}\p{Z}\p{N}_]")
    assert expression is not None
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        expected = unicodedata.category(character)[0] in "LZN" or character == "_"
        assert (expression.fullmatch(character) is not None) is expected, hex(number)
