"""Log streams: where they are, how they stay small, and how they are read while they are written."""

from __future__ import annotations

import os
import threading
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from caloric.local.environments.json_logs import stream_text
from caloric.local.environments.logs import LogLine, LogStreams
from caloric.local.process import log_stream_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GROUP = "/aws/lambda/orders"


@pytest.fixture
def streams(tmp_path: Path) -> LogStreams:
    return LogStreams(tmp_path / "logs", stream_bytes=1000, group_bytes=5000, group_streams=4)


class Follower:
    """Collects what `follow` yields, on a thread of its own."""

    def __init__(self, streams: LogStreams, group: str, function_name: str | None = None) -> None:
        self.lines: Queue[LogLine] = Queue()
        self._stop = threading.Event()

        def run() -> None:
            for line in streams.follow(group, function_name, stop=self._stop.is_set, poll_s=0.01):
                self.lines.put(line)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def next(self) -> str:
        return self.lines.get(timeout=20).text

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)


@pytest.fixture
def follow(streams: LogStreams) -> Iterator[Callable[..., Follower]]:
    followers = []

    def start(*arguments: str) -> Follower:
        followers.append(Follower(streams, *arguments))
        return followers[-1]

    yield start
    for follower in followers:
        follower.stop()


def test_groups_and_streams_have_aws_names(streams: LogStreams) -> None:
    name = log_stream_name("$LATEST")
    assert name.count("/") == 3
    streams.open(GROUP, name).write(b"hello\n")
    long = "/" + "x" * 500
    streams.open(long, "2026/11/24/orders[7][0123]").write(b"hello\n")
    assert streams.groups() == [GROUP, long]
    assert streams.streams(GROUP) == [name]
    assert streams.tail(long, 5) == [LogLine("2026/11/24/orders[7][0123]", "hello")]


def test_only_their_owner_may_read_the_files(streams: LogStreams) -> None:
    stream = streams.open(GROUP, "one")
    assert stream.path.stat().st_mode & 0o077 == 0


def test_the_descriptor_does_not_reach_programs(streams: LogStreams) -> None:
    stream = streams.open(GROUP, "one")
    assert not os.get_inheritable(stream.descriptor)
    stream.write(b"x" * 2000)
    streams.look_after()
    assert not os.get_inheritable(stream.descriptor)


def test_the_tail_is_of_the_stream_written_to_last_and_before_it_of_the_others(streams: LogStreams) -> None:
    first, second = streams.open(GROUP, "first"), streams.open(GROUP, "second")
    first.write(b"a\nb\nc\n")
    second.write(b"1\n2\n")
    os.utime(first.path, ns=(1, 1))
    os.utime(second.path, ns=(2, 2))
    assert [line.text for line in streams.tail(GROUP, 3)] == ["c", "1", "2"]
    assert [line.stream for line in streams.tail(GROUP, 3)] == ["first", "second", "second"]
    assert streams.tail(GROUP, 0) == []
    assert streams.tail("/aws/lambda/none", 3) == []


def test_functions_that_share_a_group_are_told_apart(streams: LogStreams) -> None:
    streams.open("shared", log_stream_name("$LATEST", "orders")).write(b"mine\n")
    streams.open("shared", log_stream_name("$LATEST", "orders-2")).write(b"other\n")
    assert [line.text for line in streams.tail("shared", 9, "orders")] == ["mine"]
    streams.open(GROUP, log_stream_name("3")).write(b"alone\n")
    assert [line.text for line in streams.tail(GROUP, 9, "orders")] == ["alone"]


def test_a_stream_that_grows_is_bounded_and_keeps_its_end(streams: LogStreams) -> None:
    stream = streams.open(GROUP, "one")
    descriptor = stream.descriptor
    for number in range(400):
        stream.write(b"line %04d ----\n" % number)
        if number % 20 == 0:
            streams.look_after()
    streams.look_after()
    files = list(stream.path.parent.glob("one*"))
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) < 3000
    assert stream.descriptor == descriptor
    assert streams.tail(GROUP, 2)[-1].text == "line 0399 ----"
    assert len(streams.tail(GROUP, 60)) == 60, "the older file is read, too"


def test_a_flood_between_two_looks_is_cut(streams: LogStreams) -> None:
    stream = streams.open(GROUP, "one")
    stream.write(b"".join(b"line %06d\n" % number for number in range(100_000)))
    streams.look_after()
    (older,) = stream.path.parent.glob("one.log.1")
    assert older.stat().st_size <= 1000
    assert older.read_bytes().startswith(b"line ")
    assert streams.tail(GROUP, 1)[0].text == "line 099999"


def test_a_group_forgets_its_oldest_streams_but_none_that_is_open(streams: LogStreams) -> None:
    kept = streams.open(GROUP, "kept")
    os.utime(kept.path, ns=(1, 1))
    for number in range(10):
        stream = streams.open(GROUP, f"{number}")
        stream.write(b"x\n")
        os.utime(stream.path, ns=(number + 2, number + 2))
        streams.close(stream)
        streams.close(stream)
    streams.look_after()
    assert set(streams.streams(GROUP)) == {"kept", "7", "8", "9"}


def test_a_group_is_bounded_in_bytes(streams: LogStreams) -> None:
    for number in range(4):
        stream = streams.open(GROUP, f"{number}")
        stream.write(b"x" * 2400)
        os.utime(stream.path, ns=(number, number))
        streams.close(stream)
    streams.look_after()
    assert streams.streams(GROUP) == ["2", "3"]


def test_what_is_written_is_followed(streams: LogStreams, follow: Callable[..., Follower]) -> None:
    stream = streams.open(GROUP, "one")
    stream.write(b"before\nhalf")
    follower = follow(GROUP)
    assert follower.next() == "before"
    stream.write(b" a line\nnext\n")
    assert [follower.next(), follower.next()] == ["half a line", "next"]


def test_new_streams_and_new_groups_are_followed(
    streams: LogStreams, follow: Callable[..., Follower]
) -> None:
    follower = follow(GROUP)
    streams.open(GROUP, "one").write(b"first\n")
    assert follower.next() == "first"
    streams.open(GROUP, "two").write(b"second\n")
    assert follower.next() == "second"


def test_several_follow_a_stream_through_new_files_and_lose_nothing(
    streams: LogStreams, follow: Callable[..., Follower]
) -> None:
    stream = streams.open(GROUP, "one")
    stream.write(b"begin\n")
    followers = [follow(GROUP), follow(GROUP)]
    assert [follower.next() for follower in followers] == ["begin", "begin"]
    for part in range(10):
        expected = [f"{part} {number} {'-' * 20}" for number in range(60)]
        stream.write("".join(f"{line}\n" for line in expected).encode())
        streams.look_after()
        for follower in followers:
            assert [follower.next() for _ in expected] == expected


def test_json_logs_have_the_platforms_events_from_their_level_on() -> None:
    events = [
        '{"time":"t","type":"platform.initStart","record":{"initializationType":"on-demand"}}',
        '{"time":"t","type":"platform.start","record":{"requestId":"1"}}',
        '{"time":"t","type":"function","record":"plain\\n"}',
        '{"time":"t","type":"function","record":{"level":"INFO","message":"é"}}',
        '{"time":"t","type":"extension","record":"from an extension"}',
        '{"time":"t","type":"platform.runtimeDone","record":{"status":"success"}}',
        '{"time":"t","type":"platform.runtimeDone","record":{"status":"timeout"}}',
        '{"time":"t","type":"platform.report","record":{"status":"success"}}',
        '{"time":"t","type":"platform.logsDropped","record":{"droppedRecords":1}}',
        '{"time":"t","type":"caloric.shutdown","record":{"reason":"spindown"}}',
    ]
    lines = ["plain", '{"level":"INFO","message":"é"}', "from an extension"]
    start, report = events[1], events[7]
    warnings = [events[6], events[8]]
    assert stream_text(events, None).decode().splitlines() == [
        start,
        *lines,
        warnings[0],
        report,
        warnings[1],
    ]
    assert stream_text(events, "WARN").decode().splitlines() == [*lines, *warnings]
    assert stream_text(events, "DEBUG").decode().splitlines() == [
        events[0],
        start,
        *lines,
        *events[5:9],
    ]
