"""Note that this host is about to stop. The master process writes it, and its workers read it for /readyz."""

import mmap

_shared = mmap.mmap(-1, 1)
"""One byte of memory that forked processes share with the process that has imported this."""


def start() -> None:
    """Let /readyz return 503 from now on in this process and in all its workers."""
    _shared[0] = 1


def has_started() -> bool:
    """Return whether the host is about to stop."""
    return _shared[0] == 1
