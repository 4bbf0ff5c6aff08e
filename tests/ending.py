"""Processes that end with the test, also if the test is killed."""

import ctypes
import signal
import sys

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def with_parent() -> None:
    """Let this process get SIGTERM when the thread that started it has ended. For `preexec_fn`; Linux only."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
