"""The time that a virtual clock shows, in a function that is tested with one (`caloric._rust.VirtualClock`).

The local endpoint sends Caloric deadlines in this time. Imported only where CALORIC_CLOCK names the file that says how
far the clock was put forward, which is on no machine of AWS's.
"""

from posix import O_CLOEXEC, O_RDONLY, close, environ, read
from posix import open as open_file
from time import time as real_time

__all__ = ["time"]

_FILE = environ.get(b"CALORIC_CLOCK", b"")


def time() -> float:
    """Return the Unix time that the clock shows, in seconds: that of `time.time`, and what the clock was put forward.

    Raises `OSError` when the file that CALORIC_CLOCK names cannot be read, and `ValueError` when there is no number in
    it.
    """
    # No descriptor and no mapping is kept: this has to work in forks, and the function's own descriptors keep their
    # numbers.
    descriptor = open_file(_FILE, O_RDONLY | O_CLOEXEC)
    try:
        nanoseconds = read(descriptor, 32)
    finally:
        close(descriptor)
    return real_time() + int(nanoseconds) / 1e9
