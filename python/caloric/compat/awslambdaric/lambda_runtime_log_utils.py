"""The formatter of JSON logs, for functions that give it to handlers of their own."""

from caloric.logs import JsonFormatter

__all__ = ["JsonFormatter"]
