"""A function with child processes that wait."""

import subprocess

children: list[subprocess.Popen[bytes]] = []


def handler(event: dict[str, int], context: object) -> int:
    """Start children until there are `event["children"]`, and answer with their number."""
    while len(children) < event["children"]:
        children.append(subprocess.Popen(["sleep", "infinity"]))
    return len(children)
