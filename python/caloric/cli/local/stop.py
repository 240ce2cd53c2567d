"""`caloric local stop`: end the service, as Ctrl-C does where it runs."""

from __future__ import annotations

import sys
import time

from caloric.cli import UserMistake
from caloric.cli.local.connection import Connection, NotRunningError, add_connection_options
from caloric.cli.options import Parser, whole_number
from caloric.local.service_file import Layout, ServiceFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
Functions and all that is configured are kept: caloric local start has them again.

  caloric local stop
  caloric local stop --data ~/functions/.caloric
"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return 0 when the service has ended."""
    parser = Parser(
        "local stop",
        "End the local Lambda: its environments are shut down, then the service ends.",
        _EPILOG,
        usage="caloric local stop [options]",
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=whole_number(1, 3600, "seconds"),
        default=30,
        help="how long to wait for the end (default: %(default)s)",
    )
    add_connection_options(parser)
    options = parser.parse_args(argv)
    connection = Connection(options)
    deadline = time.monotonic() + options.wait
    service = connection.call("POST", "/_caloric/stop", timeout_s=options.wait)
    file = ServiceFile(Layout(service["data"]))
    while file.running() is not None or _answers(connection):
        if time.monotonic() > deadline:
            raise UserMistake(
                f"the service has not ended in {options.wait} seconds: its process is {service['pid']}"
            )
        time.sleep(0.01)
    sys.stdout.write(f"stopped the local Lambda on {service['data']}\n")
    return 0


def _answers(connection: Connection) -> bool:
    try:
        connection.open("GET", "/_caloric/status", timeout_s=1).close()
    except NotRunningError:
        return False
    except OSError:
        # Whoever accepts and breaks off is about to end.
        pass
    return True
