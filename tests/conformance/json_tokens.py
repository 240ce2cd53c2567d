"""JSON text as its tokens: order, repeated names and the spelling of numbers stay, white space and escapes do not."""

from __future__ import annotations

import json
import re

_TOKEN = re.compile(
    r'[ \t\n\r]*(?:(?P<mark>[{}\[\],:])|(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<word>-?(?:[0-9][0-9.eE+-]*|Infinity)|NaN|true|false|null))",
    re.DOTALL,
)

Token = str


def tokens(text: str) -> list[Token] | None:
    """Return marks and words as they are, strings in a form of their own (see `string`); None for what is no JSON."""
    found = []
    position = 0
    text = text.rstrip(" \t\n\r")
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        raw = match["string"]
        found.append(match["mark"] or match["word"] or string(json.loads(raw, strict=False)))
    return found or None


def string(value: str) -> Token:
    """A string token: all escapes that are possible."""
    return json.dumps(value)


def render(found: list[Token], *, blanks: bool, escapes: bool) -> str:
    """Return JSON text: with blanks behind `,` and `:`, with escapes for what is not ASCII.

    Half surrogate pairs stay escapes, since UTF-8 has no form for them.
    """
    text = []
    for token in found:
        if token[0] == '"' and not escapes:
            text.append(_unescaped(token))
        else:
            text.append(token + " " if blanks and token in ",:" else token)
    return "".join(text)


def _unescaped(token: Token) -> str:
    shown = json.dumps(json.loads(token), ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", shown)
