"""Run a program, and end it with all its descendants when standard input is closed: python keeper.py [--network] USER …

Patroni starts PostgreSQL in a session of its own, which survives Patroni. So this process adopts all orphans among its
descendants, also those of a daemon, and can find and kill them. It uses only the standard library.

With --network it first enters a network namespace of its own. The program starts when the first line has been read.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNET = 0x40000000
PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """Return the pids of all descendants of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            children = [int(word) for word in (task / "children").read_text().split()]
            found += children + [each for child in children for each in descendants(child)]
    return found


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = sys.argv[1:]
    if words[0] == "--network":
        words.pop(0)
        if libc.unshare(CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "unshare")
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    print("ready", flush=True)
    if sys.stdin.buffer.readline():
        _start(words[0], words[1:])
        sys.stdin.buffer.read()
    while left := descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()


def _start(user: str, command: list[str]) -> None:
    if os.fork():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # Standard error is the log.
    if user:
        number, _, group = user.partition(":")
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(number))
    os.execvp(command[0], command)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
