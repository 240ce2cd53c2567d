"""`kill -9` at any moment loses nothing that was acknowledged."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.local.service.load import THREADS, Function, Step, after, found, names, source
from tests.local.service.recording import Lambda

KILLS = 15
LOAD = Path(__file__).with_name("load.py")


def run_and_kill(folder: Path, chance: random.Random, seed: int) -> list[tuple[str, Step]]:
    """Return what the load said before it was killed."""
    with subprocess.Popen(
        [sys.executable, str(LOAD), str(folder), str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for _ in range(chance.randint(1, 60)):
            line = process.stdout.readline()
            if not line:
                break
            lines.append(line)
        time.sleep(chance.random() * 0.02)
        process.kill()
        lines += process.stdout.readlines()
        errors = process.stderr.read().decode()
    assert errors == "", errors
    said = []
    for line in lines:
        word, document = line.decode().split(" ", 1)
        said.append((word, Step(**json.loads(document))))
    return said


def check_what_runs(aws: Lambda, name: str, function: Function) -> None:
    """Check that the environments have been told again what there is."""
    versions = {str(number): version for number, version in function.versions.items()}
    versions["$LATEST"] = (function.timeout, function.code)
    for number, (timeout, code) in versions.items():
        runs = aws.environments.versions[name, number]
        assert (runs.timeout_s, (runs.code / "app.py").read_text()) == (timeout, source(code))
    routes = {alias: weights for (of, alias), weights in aws.environments.routes.items() if of == name}
    assert routes == {alias: {str(version): 1} for alias, version in function.aliases.items()}


@pytest.mark.timeout(300)
def test_what_was_acknowledged_is_there_after_every_kill(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    functions: dict[str, Function | None] = {name: None for t in range(THREADS) for name in names(t)}
    highest = dict.fromkeys(functions, 0)
    acknowledged = interrupted = 0
    for kill in range(KILLS):
        open_steps: dict[str, Step] = {}
        for word, step in run_and_kill(folder, chance, seed + kill):
            if word == "BEGIN":
                open_steps[step.name] = step
            else:
                del open_steps[step.name]
                functions[step.name] = after(functions[step.name], step, step.version)
                highest[step.name] = max(highest[step.name], step.version or 0)
                acknowledged += 1
        aws = Lambda(folder)
        for name, before in functions.items():
            actual = found(aws, name)
            possible = [before]
            if name in open_steps:
                interrupted += 1
                # It may have happened or not, but not by half. A number given then is one that was never given.
                versions = [None, highest[name] + 1] if open_steps[name].kind != "delete" else [None]
                possible += [after(before, open_steps[name], version) for version in versions]
            assert actual in possible, f"{name} after kill {kill}: {open_steps.get(name)}"
            functions[name] = actual
            if actual is not None:
                check_what_runs(aws, name, actual)
            highest[name] = max(highest[name], *(actual.versions if actual else ()), 0)
        in_files = {path.name for path in aws.service.blobs.folder.iterdir()}
        with aws.service.store.read() as transaction:
            digests = {document["Code"]["Digest"] for _, document in transaction.scan("version")}
        assert digests <= in_files
        aws.close()
    print(f"{acknowledged} acknowledged, {interrupted} interrupted")
    assert acknowledged > KILLS
    assert interrupted
