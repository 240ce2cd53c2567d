"""All operations that are offered: importing this module imports the modules they are in."""

from __future__ import annotations

from caloric.local.service import (
    account,
    aliases,
    code_signing,
    concurrency,
    event_invoke_configs,
    function_urls,
    functions,
    invocations,
    layers,
    policies,
    settings,
    tags,
    versions,
)
from caloric.local.service.operations import OPERATIONS

__all__ = ["MODULES", "OPERATIONS"]

MODULES = (
    account,
    aliases,
    code_signing,
    concurrency,
    event_invoke_configs,
    function_urls,
    functions,
    invocations,
    layers,
    policies,
    settings,
    tags,
    versions,
)
"""Where they are."""
