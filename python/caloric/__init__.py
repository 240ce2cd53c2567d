"""Caloric: a fast runtime for Python on AWS Lambda.

A handler needs nothing from here. What it may want is imported when it is asked for, so that `import caloric` costs
nothing at a cold start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caloric import extension, lifecycle
    from caloric._rust import __version__
    from caloric.concurrency import trace_id
    from caloric.context import LambdaContext
    from caloric.errors import Error, MarshalError, RuntimeApiError, StreamClosedError
    from caloric.responses import HttpResponse

__all__ = [
    "Error",
    "HttpResponse",
    "LambdaContext",
    "MarshalError",
    "RuntimeApiError",
    "StreamClosedError",
    "__version__",
    "extension",
    "lifecycle",
    "trace_id",
]

_HOME = {
    "Error": "caloric.errors",
    "HttpResponse": "caloric.responses",
    "LambdaContext": "caloric.context",
    "MarshalError": "caloric.errors",
    "RuntimeApiError": "caloric.errors",
    "StreamClosedError": "caloric.errors",
    "__version__": "caloric._rust",
    "trace_id": "caloric.concurrency",
}
_MODULES = frozenset(("extension", "lifecycle"))


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # What importlib.import_module calls, without importing importlib.
    from _frozen_importlib import _gcd_import  # type: ignore[attr-defined]

    if home is None:
        module: object = _gcd_import(f"{__name__}.{name}")
        return module
    value: object = getattr(_gcd_import(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
