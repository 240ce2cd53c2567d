"""The floor for any Python runtime: the Runtime API over a raw socket and nothing else.

Run as `python -I -S raw_socket.py`. It answers every invocation with the same bytes.
"""

import _socket
from posix import environ

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: floor\r\n\r\n"
ANSWER = b'"hello"'

host, _, port = environ[b"AWS_LAMBDA_RUNTIME_API"].partition(b":")
connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
connection.connect((host.decode(), int(port)))
connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
connection.sendall(NEXT)
received = b""


def response() -> tuple[bytes, bytes]:
    """Return head and body of the next response."""
    global received
    while True:
        head, found, rest = received.partition(b"\r\n\r\n")
        if found:
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) >= length:
                received = rest[length:]
                return head, rest[:length]
        chunk = connection.recv(65536)
        if not chunk:
            raise SystemExit("the connection was closed")
        received += chunk


while True:
    request_id = (
        response()[0].lower().partition(b"lambda-runtime-aws-request-id:")[2].partition(b"\r\n")[0].strip()
    )
    head = b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: floor\r\n" % request_id
    connection.sendall(head + b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER) + NEXT)
    response()
