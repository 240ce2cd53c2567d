"""Ports for programs that cannot choose one themselves and say which."""

from __future__ import annotations

import random
import socket
from pathlib import Path


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on.

    It is below those that the kernel gives to whoever asks for any, so that no other test gets it in between.
    """
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    while True:
        port = random.randrange(10_000, int(limits[0]))
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
