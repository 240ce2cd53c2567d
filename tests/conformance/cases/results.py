"""What a handler returns, as it is posted (spec runtime-api 4.6)."""

from __future__ import annotations

from tests.conformance.case import MODERN, Case, example, fails, returns

_VALUES = [
    "None",
    "True",
    "False",
    "0",
    "-0",
    "-7",
    "2**63",
    "-2**63 - 1",
    "2**64 + 1",
    "10**300 + 7",
    "0.0",
    "-0.0",
    "0.1",
    "1e22",
    "1e16",
    "123456789012345680.0",
    "1e-5",
    "0.0001",
    "1.5e-300",
    "5e-324",
    "1.7976931348623157e308",
    "2.0",
    "float('nan')",
    "float('inf')",
    "-float('inf')",
    "''",
    "'plain'",
    "()",
    "(1, (2, 3))",
    "[]",
    "{}",
    "{'a': [1, {'b': [None, True, {'c': {}}]}], 'd': [[[]]]}",
    "{str(n): n for n in range(100, 0, -1)}",
    "b''",
    "b'\\x00\\xff not JSON'",
    "[[[]] * 3] * 3",
    "range(0).start",
]
_TEXTS = [
    "grüße, 日本, עברית, e\\u0301",
    "\\U0001F600\\U0001D49E",
    "quote \\\" backslash \\\\ slash / apostrophe '",
    "\\n\\r\\t\\b\\f\\v\\x00\\x1b\\x1f",
    "\\x7f\\x80\\x9f\\xa0\\xad",
    "\\u2028\\u2029\\ufeff\\ufffe\\uffff",
    "</script><!-- & -->",
]
CASES: list[Case] = [
    *(returns(f"the result {example(value)}", value) for value in _VALUES),
    *(returns(f"the text {example(text)}", f'"{text}"') for text in _TEXTS),
    *(
        returns(f"the text {example(text)} where the peer writes UTF-8", f'"{text}"', environment=MODERN)
        for text in _TEXTS
    ),
    returns("names outside ASCII", "{'schlüssel 🔑': 'wert', '': 'empty'}"),
    returns("a text of half a surrogate pair", "['\\ud800', '\\udfff x', '\\udc00\\ud800']"),
    fails("a set cannot be marshalled", "{1}", shows="Object of type set is not JSON serializable"),
]
