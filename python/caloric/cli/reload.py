"""`caloric emulate --reload`: new environments when the code was saved (docs/emulate.md)."""

from __future__ import annotations

import os

from caloric.cli import UserMistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from caloric.local.code_watch import CodeWatch
    from caloric.local.pool import SupervisedPool
    from caloric.local.process import RuntimeProcess

__all__ = ["check_reload", "fresh_code_variables", "reload_on_change"]

HOW_TO_INSTALL = "--reload needs the watchfiles package: pip install 'caloric[local]'"


def check_reload(options: argparse.Namespace) -> None:
    """Raise `UserMistake` for what an old environment and a new one cannot share, and where watchfiles is missing."""
    reasons = (
        (options.only_api, "--only-api", "who starts the runtime by hand starts it again"),
        (options.debug is not None, "--debug", "two processes cannot wait for a debugger at one address"),
        (
            options.runtime_api_address is not None,
            "--runtime-api-address",
            "each environment has a Runtime API of its own, and the old one stays for what it runs",
        ),
    )
    for given, option, reason in reasons:
        if given:
            raise UserMistake(f"--reload and {option} exclude each other: {reason}")
    from importlib.util import find_spec

    if find_spec("watchfiles") is None:
        raise UserMistake(HOW_TO_INSTALL)


def fresh_code_variables() -> dict[str, str]:
    """Return the variables that have Python read what was saved, where they are not set already.

    Bytecode is told from that of other code by its source's size and time in whole seconds, so that of a moment ago
    would be taken for a save in the same second. On AWS, where the folder is read-only, none is written either.
    """
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "CALORIC_TRUST_BYTECODE": "0"}
    return {name: value for name, value in variables.items() if name not in os.environ}


def reload_on_change(
    pool: SupervisedPool,
    root: str,
    remake: Callable[[], Callable[[], RuntimeProcess]],
    say: Callable[[str], object],
    *,
    quiet: bool = False,
) -> CodeWatch:
    """Watch the code in `root`, and have each change replace the environments of `pool`. Leaving the context ends it.

    `remake` returns what starts an environment of the function as it is now; where it or that fails, the function goes
    on as it was, and the next change tries again. `say` is told what was done, with `quiet` only what was not.

    Raises `UserMistake` for a folder that is none, or that cannot be watched.
    """
    if not os.path.isdir(root):
        raise UserMistake(
            f"--reload has nothing to watch: the folder {root!r} (LAMBDA_TASK_ROOT) does not exist"
        )
    if os.path.realpath(root) == os.sep:
        raise UserMistake(
            "--reload would watch the whole machine: start it in the folder with the function's code"
        )
    from caloric.local.code_watch import CodeWatch

    def changed(paths: list[str]) -> None:
        try:
            pool.replace(remake())
        except (UserMistake, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            say(f"{_named(paths)} changed, and the function goes on as it was: {reason}")
        except RuntimeError:
            # The command is about to end.
            return
        else:
            if not quiet:
                say(f"reloaded: {_named(paths)} changed")

    try:
        return CodeWatch(root, changed)
    except OSError as error:
        raise UserMistake(
            f"{error} (a large folder may need more than the system's fs.inotify.max_user_watches)"
        ) from None


def _named(paths: list[str]) -> str:
    first = "the folder" if paths[0] == "." else paths[0]
    if len(paths) == 1:
        return first
    return f"{first} and {len(paths) - 1} other{'s' if len(paths) > 2 else ''}"
