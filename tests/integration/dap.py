"""A debugger, as an IDE is one: the little of the Debug Adapter Protocol that the tests need.

https://microsoft.github.io/debug-adapter-protocol/specification
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 40


class Debugger:
    """Attached to a process that waits for a debugger."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._stream = self._socket.makefile("rb")
        self._number = 0
        self._waiting: list[dict[str, Any]] = []
        self.ask("initialize", clientID="tests", adapterID="debugpy", pathFormat="path", linesStartAt1=True)
        # Its answer comes when configuration is done.
        self._send("attach", justMyCode=True)
        self.event("initialized")

    def break_at(self, path: Path, *lines: int) -> None:
        """Set breakpoints."""
        wanted = [{"line": line} for line in lines]
        answer = self.ask("setBreakpoints", source={"path": str(path)}, breakpoints=wanted)
        assert all(found["verified"] for found in answer["breakpoints"]), answer

    def configured(self) -> None:
        """Let the process go on, which has waited for this. It may be over before it can be said to go on."""
        self._send("configurationDone")

    def stopped(self) -> int:
        """Wait for a breakpoint and return the thread that stands at it."""
        return int(self.event("stopped")["threadId"])

    def evaluate(self, thread: int, expression: str) -> str:
        """Return what an expression is in the function that stands at a breakpoint."""
        frame = self.ask("stackTrace", threadId=thread)["stackFrames"][0]["id"]
        return str(self.ask("evaluate", expression=expression, frameId=frame, context="repl")["result"])

    def go_on(self, thread: int) -> None:
        """Continue. The process may be over before it can be said to go on."""
        self._send("continue", threadId=thread)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the body of its answer."""
        number = self._send(command, **arguments)
        answer = self._receive(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        body: dict[str, Any] = answer.get("body") or {}
        return body

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event and return its body."""
        event = self._receive(lambda message: message["type"] == "event" and message["event"] == name)
        body: dict[str, Any] = event.get("body") or {}
        return body

    def close(self) -> None:
        """Go away."""
        self._stream.close()
        self._socket.close()

    def _send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(request).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        return self._number

    def _receive(self, wanted: Any) -> dict[str, Any]:
        for message in self._waiting:
            if wanted(message):
                self._waiting.remove(message)
                return message
        while True:
            message = self._read()
            if wanted(message):
                return message
            self._waiting.append(message)

    def _read(self) -> dict[str, Any]:
        length = 0
        while (line := self._stream.readline()) != b"\r\n":
            assert line, f"the debugger's connection was closed after {self._waiting}"
            name, _, value = line.partition(b":")
            if name == b"Content-Length":
                length = int(value)
        message: dict[str, Any] = json.loads(self._stream.read(length))
        return message
