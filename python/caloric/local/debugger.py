"""`breakpoint()` in a handler that `caloric invoke` runs in a terminal (`PYTHONBREAKPOINT` names `set_trace`)."""

from __future__ import annotations

import os
import pdb
import sys
from http.client import HTTPConnection

__all__ = ["set_trace"]


def set_trace() -> None:
    """Suspend the function's time limit for this invocation, then open pdb in the caller."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    connection = HTTPConnection(address, timeout=1)
    try:
        connection.request("POST", "/_caloric/debugger")
        connection.getresponse().read()
    except OSError:
        # Another endpoint than ours: the debugger opens all the same, within the time limit.
        pass
    finally:
        connection.close()
    pdb.Pdb().set_trace(sys._getframe(1))
