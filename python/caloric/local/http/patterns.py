"""The patterns of the API model, which are Java's, as Python's `re` understands them."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["compiled", "matches"]

# Unicode categories in a class. Python has no names for them, but `\w` is all letters (L), all numbers (N) and `_`,
# and of separators (Z) there are few.
_SEPARATORS = r" \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CATEGORIES = ((r"\p{L}\p{Z}\p{N}_", rf"\w{_SEPARATORS}"),)

# Java's `.` stops at each of these, Python's only at the first.
_DOT = r"[^\n\r\x85\u2028\u2029]"

_TOKEN = re.compile(r"\\.|\[\^?\]?|[.\]]", re.DOTALL)


@cache
def compiled(pattern: str) -> re.Pattern[str] | None:
    r"""Return `pattern` for `fullmatch`, or `None` if Python cannot express it: then everything matches.

    In Java `\d`, `\w` and `\s` are ASCII.
    """
    translated = pattern
    for java, python in _CATEGORIES:
        translated = translated.replace(java, python)
    flags = re.ASCII if translated == pattern else re.RegexFlag(0)
    try:
        return re.compile(_with_dots(translated), flags)
    except re.error:
        return None


def matches(pattern: str, value: str) -> bool:
    """Return whether the whole of `value` is what `pattern` says."""
    expression = compiled(pattern)
    return expression is None or expression.fullmatch(value) is not None


def _with_dots(pattern: str) -> str:
    """Return `pattern` with each `.` that stands for any character written out."""
    parts: list[str] = []
    position = 0
    in_class = False
    for token in _TOKEN.finditer(pattern):
        text = token.group()
        if text == "." and not in_class:
            parts += (pattern[position : token.start()], _DOT)
            position = token.end()
        elif text[0] == "[":
            in_class = True
        elif text == "]":
            in_class = False
    return "".join(parts) + pattern[position:]
