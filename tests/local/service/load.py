"""A load of creations, updates, publications, aliases and deletions, for services that are killed.

As a program, for `test_kill.py`, it is the service too. Each thread has functions of its own. It says what it is about
to do and, when the operation has answered, that it is done: `BEGIN` and `DONE` and a `Step`. What was done must be
there after any end of the process. `tests/local/test_killed_service.py` does the same over HTTP.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from caloric.local.service.aliases import create_alias, delete_alias, list_aliases, update_alias
from caloric.local.service.functions import (
    create_function,
    delete_function,
    update_function_code,
    update_function_configuration,
)
from caloric.local.service.versions import list_versions_by_function, publish_version
from tests.local.service.recording import Lambda, new, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Operation

CODES = [f"code {number}" for number in range(6)]
THREADS = 3
FUNCTIONS = 2
"""For each thread."""


class Service(Protocol):
    """`Lambda`, or the service over HTTP."""

    def __call__(self, operation: Operation, **members: Any) -> dict[str, Any]:
        """Return the operation's answer."""

    def settled(self, name: str, qualifier: str | None = None) -> dict[str, Any]:
        """Return the configuration when nothing is in progress any more."""


@dataclass(frozen=True)
class Step:
    """One operation on one function."""

    name: str
    kind: str
    value: Any = None
    """What was asked for."""
    version: int | None = None
    """The version in the answer, if the operation publishes one."""


@dataclass
class Function:
    """What there is of a function."""

    timeout: int
    code: str
    versions: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Timeout and code of each."""
    aliases: dict[str, int] = field(default_factory=dict)


def after(function: Function | None, step: Step, version: int | None) -> Function | None:
    """Return what a function is after a step that published `version`, if any."""
    if step.kind == "create":
        made = Function(*step.value)
    else:
        assert function is not None
        made = Function(function.timeout, function.code, dict(function.versions), dict(function.aliases))
    if step.kind == "configure":
        made.timeout = step.value
    elif step.kind == "code":
        made.code = step.value
    elif step.kind == "alias":
        alias, target = step.value
        made.aliases[alias] = target
    elif step.kind == "unalias":
        made.aliases.pop(step.value, None)
    elif step.kind == "delete version":
        del made.versions[step.value]
    elif step.kind == "delete":
        return None
    if version is not None:
        made.versions[version] = (made.timeout, made.code)
    return made


def names(thread: int) -> list[str]:
    return [f"f{thread}-{number}" for number in range(FUNCTIONS)]


def source(code: str) -> str:
    return f"def handler(event, context):\n    return {code!r}\n"


def package(code: str) -> bytes:
    return zipped({"app.py": source(code)})


BY_DIGEST = {base64.b64encode(hashlib.sha256(package(code)).digest()).decode(): code for code in CODES}


def found(aws: Service, name: str) -> Function | None:
    """Return what the service has of a function, when nothing is in progress any more."""
    try:
        latest = aws.settled(name)
    except Exception as error:
        if "ResourceNotFoundException" not in str(error):
            raise
        return None
    assert (latest["State"], latest["LastUpdateStatus"]) == ("Active", "Successful"), latest
    numbers = [v["Version"] for v in aws(list_versions_by_function, FunctionName=name)["Versions"]]
    published: dict[int, tuple[int, str]] = {}
    for number in numbers:
        version = aws.settled(name, number)
        code = BY_DIGEST[version["CodeSha256"]]
        published[0 if number == "$LATEST" else int(number)] = (version["Timeout"], code)
    aliases = {
        alias["Name"]: int(alias["FunctionVersion"])
        for alias in aws(list_aliases, FunctionName=name)["Aliases"]
    }
    timeout, code = published.pop(0)
    return Function(timeout, code, published, aliases)


def steps(chance: random.Random, functions: dict[str, Function | None]) -> Iterator[Step]:
    while True:
        name = chance.choice(sorted(functions))
        function = functions[name]
        timeout, code = chance.randint(1, 900), chance.choice(CODES)
        if function is None:
            yield Step(name, "create", (timeout, code))
            continue
        kind = chance.choice(("configure", "code", "publish", "alias", "unalias", "delete version", "delete"))
        unused = sorted(set(function.versions) - set(function.aliases.values()))
        if kind == "configure":
            yield Step(name, kind, timeout)
        elif kind == "code":
            yield Step(name, kind, code)
        elif kind == "alias" and function.versions:
            yield Step(name, kind, (chance.choice("ab"), chance.choice(sorted(function.versions))))
        elif kind == "unalias":
            yield Step(name, kind, chance.choice("ab"))
        elif kind == "delete version" and unused:
            yield Step(name, kind, chance.choice(unused))
        elif kind == "publish" or (kind == "delete" and chance.random() < 0.3):
            yield Step(name, kind)


def perform(aws: Service, function: Function | None, step: Step, publish: bool) -> int | None:
    """Do a step, and return the version it made."""
    name = step.name
    answer: dict[str, Any] = {}
    if step.kind == "create":
        timeout, code = step.value
        answer = aws(
            create_function, **new(name, Timeout=timeout, Code={"ZipFile": package(code)}, Publish=publish)
        )
    elif step.kind == "delete":
        aws(delete_function, FunctionName=name)
    elif step.kind == "unalias":
        aws(delete_alias, FunctionName=name, Name=step.value)
    elif step.kind == "alias":
        assert function is not None
        alias, target = step.value
        operation = update_alias if alias in function.aliases else create_alias
        aws(operation, FunctionName=name, Name=alias, FunctionVersion=str(target))
    elif step.kind == "delete version":
        aws.settled(name, str(step.value))
        aws(delete_function, FunctionName=name, Qualifier=str(step.value))
    else:
        aws.settled(name)
        if step.kind == "publish":
            answer = aws(publish_version, FunctionName=name)
        elif step.kind == "code":
            answer = aws(
                update_function_code, FunctionName=name, ZipFile=package(step.value), Publish=publish
            )
        else:
            aws(update_function_configuration, FunctionName=name, Timeout=step.value)
    version = answer.get("Version", "$LATEST")
    return None if version == "$LATEST" else int(version)


def say(word: str, step: Step) -> None:
    # One write, which a kill does not cut.
    os.write(1, f"{word} {json.dumps(asdict(step))}\n".encode())


def work_or_end(*arguments: Any) -> None:
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def work(aws: Lambda, thread: int, seed: int, functions: dict[str, Function | None]) -> None:
    chance = random.Random(f"{seed}/{thread}")
    for step in steps(chance, functions):
        say("BEGIN", step)
        version = perform(aws, functions[step.name], step, chance.random() < 0.5)
        functions[step.name] = after(functions[step.name], step, version)
        say("DONE", Step(step.name, step.kind, step.value, version))


def main() -> None:
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    aws = Lambda(folder)
    for thread in range(THREADS):
        functions = {name: found(aws, name) for name in names(thread)}
        threading.Thread(target=work_or_end, args=(aws, thread, seed, functions), daemon=True).start()
    # It is killed; otherwise something went wrong, and this ends it.
    time.sleep(120)


if __name__ == "__main__":
    main()
