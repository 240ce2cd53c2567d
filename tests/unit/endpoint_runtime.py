"""A runtime of a few lines: one socket, no HTTP library, and it does what the event says.

The tests start this file as a process. Argument 1 is what it does at init; an event is a command and its argument.
"""

from __future__ import annotations

import os
import socket
import sys
import time

PREFIX = b"/2018-06-01/runtime/"
NEXT = b"GET %sinvocation/next HTTP/1.1\r\nHost: x\r\n\r\n" % PREFIX

host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")


def connect() -> socket.socket:
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, buffer: bytearray) -> tuple[bytes, dict[bytes, bytes], bytes]:
    while b"\r\n\r\n" not in buffer:
        if not (data := connection.recv(1 << 20)):
            sys.exit("the endpoint closed the connection")
        buffer += data
    head, _, _ = bytes(buffer).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = (line.lower().partition(b": ") for line in lines[1:])
    headers = {name: value for name, _, value in fields}
    end = len(head) + 4 + int(headers[b"content-length"])
    while len(buffer) < end:
        buffer += connection.recv(1 << 20)
    body = bytes(buffer[len(head) + 4 : end])
    del buffer[:end]
    return lines[0], headers, body


def post(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    head = b"POST %s%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n"
    return head % (PREFIX, path, headers, len(body)) + body


def act(command: str, argument: str) -> bytes:
    """Do what the event says and return the answer."""
    if command == "exit":
        os._exit(int(argument))
    if command == "signal":
        os.kill(os.getpid(), int(argument))
    if command == "sleep":
        time.sleep(float(argument))
    if command == "print":
        print(argument, end="", flush=True)
    if command == "stderr":
        print(argument, file=sys.stderr, flush=True)
    if command == "lines":
        for number in range(int(argument)):
            os.write(1, b"line %d\n" % number)
    if command == "allocate":
        block = bytearray(int(argument) << 20)
        del block
    if command == "large":
        return b"x" * int(argument)
    if command == "pid":
        return b"%d" % os.getpid()
    if command == "group":
        return b"%d" % os.getpgid(0)
    if command == "cwd":
        return os.getcwd().encode()
    if command == "descriptors":
        return ",".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode()
    if command == "child":
        # A process that outlives this one unless somebody sees to it.
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        return b"%d" % pid
    return b"done"


def main(init: str, argument: str) -> None:
    if init == "exit":
        print("leaving at once", file=sys.stderr, flush=True)
        os._exit(int(argument))
    if init == "hang":
        time.sleep(60)
    connection, buffer = connect(), bytearray()
    if init == "error":
        body = b'{"errorMessage":"no module","errorType":"Runtime.ImportModuleError","stackTrace":[]}'
        kind = b"Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\r\n"
        connection.sendall(post(b"init/error", body, kind))
        if argument == "stay":
            receive(connection, buffer)
            time.sleep(60)
        # Without reading the answer: what was posted with the last breath counts.
        os._exit(1)
    if init == "print":
        print(argument, flush=True)
    send = NEXT
    while True:
        connection.sendall(send)
        status, headers, event = receive(connection, buffer)
        while b"lambda-runtime-aws-request-id" not in headers:
            if status.split()[1] != b"202":
                print("refused:", status.decode(), flush=True)
            status, headers, event = receive(connection, buffer)
        command, _, rest = event.decode().partition(" ")
        answer = b"invocation/%s/response" % headers[b"lambda-runtime-aws-request-id"]
        if command == "headers":
            body = b"\n".join(b"%s: %s" % item for item in sorted(headers.items()))
            send = post(answer, body, b"Content-Type: text/plain\r\n") + NEXT
        elif command == "fail":
            document = b'{"errorMessage":"on purpose","errorType":"ValueError"}'
            send = post(answer.replace(b"response", b"error"), document) + NEXT
        elif command == "truncate":
            connection.sendall(post(answer, b"half")[:-2])
            connection.close()
            connection, buffer, send = connect(), bytearray(), NEXT
            time.sleep(0.1)
        elif command == "linger":
            connection.sendall(post(answer, b"done"))
            receive(connection, buffer)
            time.sleep(float(rest))
            send = NEXT
        elif command == "answer-and-exit":
            connection.sendall(post(answer, b"last words"))
            os._exit(int(rest))
        elif command == "pause":
            other = connect()
            other.sendall(b"POST /_caloric/debugger HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            receive(other, bytearray())
            time.sleep(float(rest))
            send = post(answer, b"paused") + NEXT
        else:
            send = post(answer, act(command, rest)) + NEXT


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
