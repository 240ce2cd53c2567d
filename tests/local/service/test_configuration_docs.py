"""docs/local-configuration.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from caloric.local.archives import MAX_ENTRIES, MAX_SIZE
from caloric.local.service import (
    account,
    code_signing,
    concurrency,
    event_invoke_configs,
    function_urls,
    layers,
    pages,
    policies,
    settings,
    statements,
    tags,
)
from caloric.local.service.code import MAX_ZIPPED
from caloric.local.service.operations import OPERATIONS

PAGE = (Path(__file__).parents[3] / "docs" / "local-configuration.md").read_text()
MODULES = {
    module.__name__
    for module in (
        account,
        code_signing,
        concurrency,
        event_invoke_configs,
        function_urls,
        layers,
        policies,
        settings,
        tags,
    )
}


def test_the_table_has_every_operation_and_no_other() -> None:
    table = PAGE.split("## What each setting does")[1].split("\n## ")[0]
    offered = {name for name, function in OPERATIONS.items() if function.__module__ in MODULES}
    assert sorted(re.findall(r"`([A-Z]\w+)`", table)) == sorted(offered)


def test_the_limits_are_those_of_the_code() -> None:
    limits = PAGE.split("## Limits")[1].split("\n## ")[0]
    limits = re.sub(r"(?<=\d) (?=\d{3})", "", limits)
    for limit in (MAX_ZIPPED, MAX_SIZE, MAX_ENTRIES, statements.MAX_POLICY, tags.MAX_TAGS, pages.PAGE):
        assert re.search(rf"\b{limit}( bytes| files| items|;)", limits), limit
