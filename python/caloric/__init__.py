"""Caloric: a fast runtime for Python on AWS Lambda.

A handler needs nothing from here. What it may want is imported when it is asked for, so that `import caloric` costs
nothing at a cold start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caloric._rust import __version__
    from caloric.context import LambdaContext
    from caloric.errors import Error, RuntimeApiError

__all__ = ["Error", "LambdaContext", "RuntimeApiError", "__version__"]

_HOME = {
    "Error": "caloric.errors",
    "LambdaContext": "caloric.context",
    "RuntimeApiError": "caloric.errors",
    "__version__": "caloric._rust",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
