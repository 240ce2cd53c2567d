"""Do something right after a module was imported for the first time.

`caloric.runtime` watches for the import itself, since that has to be cheap; this is what happens when it comes.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from typing import Any


def find_spec_then(
    name: str, path: "Any", target: "Any", action: "Callable[[], None]"
) -> "ModuleSpec | None":
    """Return the spec that the finders on `sys.meta_path` have for `name`, with `action` to be called once the module's
    code has run. None when there is no such module.

    Spec and loader are the module's own again before its code runs, so nobody sees that somebody waited.
    """
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path, target)
        if spec is not None:
            if spec.loader is not None:
                spec.loader = _LoaderThen(spec.loader, action)  # type: ignore[assignment]
            return spec
    return None


class _LoaderThen:
    """Stands in for a module's loader until its code has run."""

    def __init__(self, loader: "Any", action: "Callable[[], None]") -> None:
        self._loader = loader
        self._action = action

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def create_module(self, spec: "Any") -> "Any":
        return self._loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action()
