"""The names of awslambdaric, for tools that reach inside the runtime: Sentry, Datadog and others import or patch them.

`awslambdaric/` is a package of that name for processes whose runtime is Caloric; `loop.py` serves invocations through
what may have been patched in it. Both are imported only when a tool, or the function itself, imports one of the names.
"""

from __future__ import annotations

import os
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from caloric._rust import RuntimeClient

__all__ = ["client", "hand_over", "package_spec"]

client: RuntimeClient | None = None
"""The client of the runtime of this process; None where this is imported without a runtime."""


def package_spec(runtime_client: RuntimeClient) -> ModuleSpec | None:
    """Return the spec of the package `awslambdaric` for the process that `runtime_client` serves."""
    global client
    client = runtime_client
    folder = os.path.join(os.path.dirname(__file__), "awslambdaric")
    path = os.path.join(folder, "__init__.py")
    return spec_from_file_location("awslambdaric", path, submodule_search_locations=[folder])


def hand_over() -> None:
    """Have invocations served by `loop.py` from now on, beginning with the answer to the one at hand."""
    if client is not None:
        client.hand_over()
