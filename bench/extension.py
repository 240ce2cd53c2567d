"""What an extension adds to a cold start, side by side: `python -m bench.extension [--starts N]`.

From just before the process is created until it asks to be registered, which is when Lambda may start the runtime, and
until it has subscribed to telemetry and asks for its first event. A bare socket is the platform. All run with this
environment's interpreter; every start is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

EXTENSIONS = Path(__file__).parent / "extensions"
NAMES = {"caloric.extension": "sdk.py", "http.client": "with_http_client.py", "urllib": "with_urllib.py"}
NOTHING = "an interpreter that ends at once"
CALLS = (
    "POST /2020-01-01/extension/register",
    "PUT /2022-07-01/telemetry",
    "GET /2020-01-01/extension/event/next",
)


def request(server: socket.socket, connections: list[socket.socket]) -> tuple[socket.socket, str]:
    """Return the next request's connection and request line."""
    while True:
        ready = select.select([server, *connections], [], [], 20)[0]
        if not ready:
            sys.exit("an extension says nothing")
        if ready[0] is server:
            connections.append(server.accept()[0])
        elif line := read(ready[0]):
            return ready[0], line
        else:
            connections.remove(ready[0])
            ready[0].close()


def read(connection: socket.socket) -> str:
    """Read a request; return its request line, or nothing when the connection is closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return ""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or b"0")
    while len(body) < length:
        body += connection.recv(65536)
    return head.split(b"\r\n", 1)[0].decode()


def start(program: str) -> list[float]:
    """Start an extension once; return the milliseconds to its registration and to its first poll."""
    reached = []
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        began = time.perf_counter_ns()
        process = subprocess.Popen(
            [sys.executable, str(EXTENSIONS / program)],
            env={**os.environ, "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}"},
        )
        try:
            for call in CALLS:
                connection, line = request(server, connections)
                reached.append((time.perf_counter_ns() - began) / 1e6)
                if not line.startswith(f"{call} "):
                    sys.exit(f"{program} said {line!r} in place of {call}")
                event = {"eventType": "SHUTDOWN", "deadlineMs": int(time.time() * 1000) + 2000}
                body = json.dumps(event).encode()
                identifier = b"Lambda-Extension-Identifier: 0f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b\r\n"
                head = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (identifier, len(body))
                connection.sendall(head + body)
            if process.wait(20) != 0:
                sys.exit(f"{program} ended with {process.returncode}")
        finally:
            process.kill()
            for connection in connections:
                connection.close()
    return [reached[0], reached[-1]]


def interpreter() -> list[float]:
    """Return the milliseconds that Python itself takes."""
    began = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return [(time.perf_counter_ns() - began) / 1e6]


def main() -> None:
    """Measure all of them by turns, and print a table of medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=100)
    starts = parser.parse_args().starts
    samples: dict[str, list[list[float]]] = {name: [] for name in [NOTHING, *NAMES]}
    # The first start compiles what is not compiled yet.
    for program in NAMES.values():
        start(program)
    for _ in range(starts):
        for name in random.sample(list(samples), len(samples)):
            samples[name].append(interpreter() if name == NOTHING else start(NAMES[name]))
    print(f"median of {starts} starts, ms           to its registration   to its first poll, with telemetry")
    for name, found in samples.items():
        medians = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"{name:36} {'   '.join(f'{median:20.1f}' for median in medians)}")


if __name__ == "__main__":
    main()
