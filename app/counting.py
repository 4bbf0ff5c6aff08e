"""Make counting harmless: an error of the metrics library never fails a request or kills a worker.

With several workers, prometheus-client keeps each value in a file that is mapped into memory. If the folder is gone,
it raises. If the file system is full, writing to the mapped memory ends the process with SIGBUS. So every error is
dropped here, together with what was to be counted, and files are written completely before they are mapped.
"""

import os
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import mmap_dict, values

log = structlog.get_logger()
_reported: set[int] = set()


class FilledFile:
    """A file that grows by writing zeros, so that a full file system raises OSError before anything is mapped."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def truncate(self, size: int) -> None:
        """Make the file longer. If that is not possible, leave it as it was."""
        before = os.fstat(self._file.fileno()).st_size
        try:
            self._file.write(bytes(size - before))
            self._file.flush()
        except OSError:
            os.ftruncate(self._file.fileno(), before)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class FilledDict(mmap_dict.MmapedDict):
    """The library's file of values, written completely before it is mapped."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode and not (os.path.exists(filename) and os.path.getsize(filename)):
            with open(filename, "ab", buffering=0) as new:
                FilledFile(new).truncate(mmap_dict._INITIAL_MMAP_SIZE)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        self._f: Any = FilledFile(self._f)


def harmless(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method, changed so that it returns 0.0 instead of raising. Each process logs its first error."""

    def call(value: Any, *args: Any, **options: Any) -> Any:
        try:
            return method(value, *args, **options)
        except Exception as error:
            if os.getpid() not in _reported:
                _reported.add(os.getpid())
                log.error("metric_lost", error=f"{type(error).__name__}: {error}")
            return 0.0

    return call


def harmless_init(init: Callable[..., None]) -> Callable[..., None]:
    """Return a value's `__init__`, changed so that it leaves an unusable value instead of raising."""
    quiet = harmless(init)

    def call(value: Any, *args: Any, **options: Any) -> None:
        quiet(value, *args, **options)

    return call


def install() -> None:
    """Change the metrics library in this process. Metrics that exist already are changed, too."""
    values.MmapedDict = FilledDict  # type: ignore[attr-defined]
    for name in ("inc", "set", "get"):
        setattr(values.ValueClass, name, harmless(getattr(values.ValueClass, name)))
    values.ValueClass.__init__ = harmless_init(values.ValueClass.__init__)
