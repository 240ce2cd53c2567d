"""Parts of the tests that are not ours: AWS's Runtime Interface Emulator and AWS's sample events.

Both live in the aws-sam-cli wheel. `python -m tests.parts`, which `make test` runs, downloads the pinned
wheel, checks its hash and unpacks what we use into `.cache/parts/`; nothing of it is in our repository. Tests
ask `rie()` and `sample_events()`. The programs of `foreign()` are built by `tools/setup parts`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT = ROOT / "tests" / "parts.txt"
PARTS = ROOT / ".cache" / "parts"
RIE = PARTS / "aws-lambda-rie"
EVENTS = PARTS / "events"
FOREIGN = ROOT / ".cache" / "foreign"
# Written last, with the sizes of all files: a set-up that was interrupted is no set-up.
MANIFEST = PARTS / "manifest.json"

SAMPLE_COUNT = 66
# Machine names as the kernel has them, to the names AWS gave its binaries.
RIE_BINARIES = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
WHEEL_RIE = "samcli/local/rapid"
WHEEL_EVENTS = "samcli/lib/generated_sample_events"

PLACEHOLDER = re.compile(r"\{\{\{?\s*(\w+)\s*\}\}\}?")


class PartsMissingError(Exception):
    """The parts were not fetched, or are not those that this commit asks for."""


def rie() -> Path:
    """Return the path of AWS's emulator, an executable.

    Raises `PartsMissingError` before `make test` has fetched it.
    """
    check()
    return RIE


def sample_events() -> dict[str, bytes]:
    """Return AWS's sample events as JSON documents, 66 of them, keyed like `s3/S3Put`.

    Raises `PartsMissingError` before `make test` has fetched them.
    """
    check()
    paths = sorted(EVENTS.glob("*/*.json"))
    events = {str(path.relative_to(EVENTS).with_suffix("")): path.read_bytes() for path in paths}
    assert len(events) == SAMPLE_COUNT, f"expected {SAMPLE_COUNT} sample events, found {len(events)}"
    return events


def foreign(name: str) -> Path:
    """Return the path of a program of `tests/foreign`, made of AWS's Rust crates.

    Raises `PartsMissingError` before `make test` has built it.
    """
    path = FOREIGN / "debug" / name
    if not path.is_file():
        raise PartsMissingError(f"{path} is missing: run `make test`, or `tools/setup parts`")
    return path


def check() -> None:
    """Raise `PartsMissingError` unless all parts that this commit asks for are there, complete."""
    try:
        manifest = json.loads(MANIFEST.read_bytes())
        complete = manifest["inputs"] == inputs() and manifest["sizes"] == sizes()
    except (OSError, ValueError, KeyError):
        complete = False
    if not complete:
        raise PartsMissingError(
            f"the test parts in {PARTS} are missing or from another version: run `make test`,"
            " or `.venv/bin/python -m tests.parts` for the parts alone"
        )


def inputs() -> str:
    """Return what the parts are made from: the pinned wheel, this module and the machine."""
    made_from = REQUIREMENT.read_bytes() + Path(__file__).read_bytes() + platform.machine().encode()
    return hashlib.sha256(made_from).hexdigest()


def sizes() -> dict[str, int]:
    """Return the size in bytes of every file among the parts but the manifest."""
    files = (path for path in PARTS.rglob("*") if path.is_file() and path != MANIFEST)
    return {str(path.relative_to(PARTS)): path.stat().st_size for path in sorted(files)}


def fetch() -> None:
    """Download the wheel and unpack the parts. Raises `CalledProcessError` if pip does not get the wheel."""
    shutil.rmtree(PARTS, ignore_errors=True)
    PARTS.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        # pip verifies the hash. The wheel is pure Python to pip, so any interpreter gets the same file.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", folder]
        subprocess.run([*command, *options, "-r", str(REQUIREMENT)], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpack_rie(archive)
            unpack_events(archive)
    MANIFEST.write_text(json.dumps({"inputs": inputs(), "sizes": sizes()}, indent=2))


def unpack_rie(archive: zipfile.ZipFile) -> None:
    """Write this machine's emulator. Raises `SystemExit` on a machine that AWS builds none for."""
    machine = platform.machine()
    if machine not in RIE_BINARIES:
        raise SystemExit(f"AWS has no emulator for {machine}, only for {' and '.join(RIE_BINARIES)}")
    RIE.write_bytes(archive.read(f"{WHEEL_RIE}/{RIE_BINARIES[machine]}"))
    RIE.chmod(0o755)


def unpack_events(archive: zipfile.ZipFile) -> None:
    """Write every sample event with its placeholders filled from the defaults in SAM's event mapping."""
    mapping = json.loads(archive.read(f"{WHEEL_EVENTS}/event-mapping.json"))
    for service, kinds in mapping.items():
        for kind in kinds.values():
            path = EVENTS / service / f"{kind['filename']}.json"
            if path.exists():  # three kinds of Kinesis event share one file and differ in a default
                continue
            template = json.loads(archive.read(f"{WHEEL_EVENTS}/events/{service}/{kind['filename']}.json"))
            event = fill(template, defaults(kind["tags"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(event, indent=2, ensure_ascii=False), encoding="utf-8")


def defaults(tags: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the value of each placeholder, encoded as the mapping says.

    A tag is written with dashes in the mapping and with underscores in the events.
    """
    values = {}
    for name, properties in tags.items():
        default = properties.get("default", "")
        values[name] = encode(default, properties)
        for child, child_properties in properties.get("children", {}).items():
            values[child] = encode(default, child_properties)
    return {name.replace("-", "_"): value for name, value in values.items()}


def encode(value: str, properties: dict[str, Any]) -> Any:
    """Return a placeholder's value in the form that SAM puts into the event."""
    if properties.get("type") == "dict":
        return json.loads(value)
    if properties.get("encoding") == "url":
        return urllib.parse.quote(value)
    if properties.get("encoding") == "base64":
        return base64.b64encode(value.encode()).decode()
    if properties.get("hashing") == "md5":
        return hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()
    unknown = properties.keys() & {"encoding", "hashing"}
    assert not unknown, f"SAM's event mapping asks for {unknown}: {properties}"
    return value


def fill(node: Any, values: dict[str, Any]) -> Any:
    """Return the template with its placeholders filled; one without a value is empty, as in Mustache."""
    if isinstance(node, dict):
        return {fill(key, values): fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value, values) for value in node]
    if not isinstance(node, str):
        return node
    whole = PLACEHOLDER.fullmatch(node)
    if whole:
        return values.get(whole[1], "")
    return PLACEHOLDER.sub(lambda match: str(values.get(match[1], "")), node)


def main() -> None:
    """Fetch the parts unless they are there."""
    try:
        check()
    except PartsMissingError:
        print("fetching the test parts: AWS's emulator and sample events (8 MB)…", file=sys.stderr)
        try:
            fetch()
        except subprocess.CalledProcessError:
            raise SystemExit("the test parts could not be fetched: pip's message is above") from None
        check()


if __name__ == "__main__":
    main()
