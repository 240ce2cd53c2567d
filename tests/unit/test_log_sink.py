"""Frames on the platform's log descriptor: whole ones, whoever writes and however little the pipe takes."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from caloric.log_sink import FramedTelemetryLogSink, frame_type

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = 16


class Pipe:
    """A sink, and a thread that reads what it writes."""

    def __init__(self) -> None:
        self._readable, self.writable = os.pipe()
        self.sink = FramedTelemetryLogSink(self.writable)
        self._data: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while data := os.read(self._readable, 5000):
            self._data.append(data)

    def messages(self) -> list[bytes]:
        """Close the sink, and return what its frames held."""
        self.close()
        data, found = b"".join(self._data), []
        while data:
            assert data[:4] == frame_type(), "a frame begins where the last one ends"
            end = HEAD + int.from_bytes(data[4:8], "big")
            found.append(data[HEAD:end])
            data = data[end:]
        return found

    def close(self) -> None:
        if self.writable >= 0:
            os.close(self.writable)
            self.writable = -1
            self._reader.join()
            os.close(self._readable)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def write_from_threads(sink: FramedTelemetryLogSink) -> list[bytes]:
    # Longer than a pipe holds, so that no frame goes out in one piece.
    texts = [[f"{n} {i} " + str(n) * 70_000 for i in range(5)] for n in range(4)]
    threads = [threading.Thread(target=lambda own=own: [*map(sink.log, own)]) for own in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [text.encode() for own in texts for text in own]


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
def test_frames_of_several_threads_do_not_mix_on_a_full_pipe(pipe: Pipe, blocking: bool) -> None:
    os.set_blocking(pipe.writable, blocking)
    written = write_from_threads(pipe.sink)
    assert sorted(pipe.messages()) == sorted(written)


def test_a_signal_handler_logs_in_the_middle_of_a_frame(pipe: Pipe) -> None:
    count = 0

    def on_alarm(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        pipe.sink.log("alarm")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        number = 0
        while count < 20:
            pipe.sink.log("x" * 70_000)
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    messages = pipe.messages()
    assert messages.count(b"alarm") == count
    assert messages.count(b"x" * 70_000) == number
    assert len(messages) == count + number


def test_a_fork_while_another_thread_writes_can_log() -> None:
    readable, writable = os.pipe()
    sink = FramedTelemetryLogSink(writable)
    os.set_blocking(writable, False)
    # Nobody reads: the thread is in the middle of its frame.
    thread = threading.Thread(target=lambda: sink.log("x" * 70_000), daemon=True)
    thread.start()
    while not sink._is_writing:
        thread.join(0.001)
    pid = os.fork()
    if not pid:
        sink._descriptor = os.open(os.devnull, os.O_WRONLY)
        sink.log("from the child")
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    while thread.is_alive():
        os.read(readable, 1 << 16)
        thread.join(0.01)
    os.close(readable)
    os.close(writable)


def test_what_utf8_cannot_hold_is_escaped(pipe: Pipe) -> None:
    pipe.sink.log("é \ud800")
    assert pipe.messages() == ["é \\ud800".encode()]


def test_a_closed_descriptor_is_an_error() -> None:
    readable, writable = os.pipe()
    os.close(readable)
    sink = FramedTelemetryLogSink(writable)
    with pytest.raises(BrokenPipeError):
        sink.log("x")
    os.close(writable)
