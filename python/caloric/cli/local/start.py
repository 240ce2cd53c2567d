"""`caloric local start`: the service, in the foreground."""

from __future__ import annotations

import os
import sys

from caloric.cli import UserMistake
from caloric.cli.options import Parser, account_id, region, whole_number
from caloric.local.service_file import DEFAULT_FOLDER, DEFAULT_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from caloric.local.local_lambda import LocalLambda

_EPILOG = """\
Functions, versions, layers and everything configured are kept in the data directory, and are there again at the next
start. Ctrl-C ends the service and all that it started; a second Ctrl-C does not wait for anything.

  caloric local start
  caloric local start --port 9100 --data ~/functions/.caloric
  caloric local start --min-environments 2
  AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=secret caloric local start --require-auth

From another terminal:

  caloric local deploy hello && caloric local invoke hello
  aws lambda list-functions --endpoint-url http://127.0.0.1:9001
"""


def main(argv: Sequence[str]) -> int:
    """Serve until SIGINT, SIGTERM, SIGHUP or `caloric local stop`, and return 0; 1 for a service that cannot go on."""
    parser = Parser(
        "local start",
        "Serve Lambda on this machine, for boto3, the aws CLI and anything else that speaks AWS's API.",
        _EPILOG,
        usage="caloric local start [--port PORT] [--data DIR] [options]",
    )
    parser.add_argument(
        "--port",
        type=whole_number(0, 65535, "(0 takes a free one)"),
        default=DEFAULT_PORT,
        help="where to listen (default: %(default)s; 0 takes a free one)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0 to be reached from other machines and containers, which then need no password: see "
        "--require-auth (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a further name by which requests may reach it; may be given several times",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=DEFAULT_FOLDER,
        help="where everything is kept (default: %(default)s)",
    )
    parser.add_argument(
        "--region", help="the region it is in (default: AWS_REGION, AWS_DEFAULT_REGION, us-east-1)"
    )
    parser.add_argument("--account", help="its account, 12 digits (default: AWS_ACCOUNT_ID, 012345678912)")
    parser.add_argument(
        "--require-auth",
        action="store_true",
        help="refuse requests that are not signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (SigV4)",
    )
    parser.add_argument(
        "--runtime-client",
        choices=("caloric", "awslambdaric"),
        default="caloric",
        help="what runs Python functions (default: %(default)s)",
    )
    parser.add_argument(
        "--min-environments",
        metavar="N",
        type=whole_number(0, 1000, "environments"),
        default=0,
        help="keep so many environments of each function started, so that its first invocation is warm (default: 0)",
    )
    parser.add_argument(
        "--idle",
        metavar="SECONDS",
        type=whole_number(1, 86400, "seconds"),
        default=600,
        help="end an environment that has not been used for so long (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    return _serve(options)


def _settings(options: Namespace) -> dict[str, Any]:
    """Return the arguments of `Settings`."""
    own_region = options.region or region()
    if options.region is not None and not _REGION.issuperset(options.region):
        raise UserMistake(f"--region {options.region!r} is no region")
    account = options.account or account_id()
    if not (len(account) == 12 and account.isascii() and account.isdigit()):
        raise UserMistake(f"--account {account!r} is not 12 digits")
    credentials = None
    if options.require_auth:
        access_key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not access_key or not secret:
            raise UserMistake(
                "--require-auth needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: what requests have to be signed with"
            )
        credentials = (access_key, secret)
    return {
        "data": options.data,
        "host": options.host,
        "port": options.port,
        "allowed_hosts": tuple(options.allow_host),
        "region": own_region,
        "account": account,
        "credentials": credentials,
        "runtime_client": options.runtime_client,
        "min_environments": options.min_environments,
        "idle_s": options.idle,
    }


_REGION = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def _serve(options: Namespace) -> int:
    settings = _settings(options)

    from caloric.cli.local.ending import Ending

    with Ending() as ending:
        try:
            from caloric.local.local_lambda import CannotStartError, LocalLambda, Settings
        except ImportError as error:
            raise UserMistake(
                f"the local Lambda needs {error.name}, which is not installed: pip install 'caloric[local]'"
            ) from None
        try:
            service = LocalLambda(Settings(**settings), end=ending.begin)
        except CannotStartError as error:
            raise UserMistake(str(error)) from None
        try:
            ending.on_force(service.abandon)
            _say(_banner(service))
            ending.wait()
            _say("stopping\n")
        finally:
            ending.finish(service.close)
    if service.failure is not None:
        sys.stderr.write(f"caloric local: {service.failure}\n")
        return 1
    return 0


def _say(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        # The terminal was closed, or whoever read has gone: that is no reason to stop serving.
        pass


def _banner(service: LocalLambda) -> str:
    """Return what the user has to know: where it listens, how to get there, and what is not as on AWS."""
    settings = service.settings
    enforced = ", ".join(limit.name for limit in service.limits if limit.enforced)
    lines = [
        f"listening on {service.url} ({settings.region}, account {settings.account})",
        f"data in {service.layout.folder}",
        "",
        f'  boto3.client("lambda", endpoint_url="{service.url}", region_name="{settings.region}")',
        f"  export AWS_ENDPOINT_URL_LAMBDA={service.url}    # for the aws CLI",
        "  caloric local deploy FOLDER                 # from another terminal",
        "",
        f"limits that the {service.sandbox.name} sandbox enforces: {enforced}",
        "and those it cannot:",
        *(f"  {limit.name}: {limit.how}" for limit in service.limits if not limit.enforced),
        "",
    ]
    return "\n".join(lines) + "\n"
