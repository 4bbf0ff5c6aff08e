"""Bodies of requests: reading them has a deadline, and what no view has read is drained before the response.

A client that sends slowly would hold a thread for as long as it likes, because the server's reads have no time-out.
And a connection that is closed while the client still sends may lose the response. So a body is read within a
deadline, the rest of it is dropped, and if that takes too long or is too much, the connection ends after the response.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from time import monotonic
from typing import Any

from app.watchdog import Limit

BODY_SECONDS = 20.0
"""Seconds in which a body must arrive, from its first read. A form of 2 kB does, also on a poor mobile line."""

DRAIN_SECONDS = 3.0
"""Seconds, and DRAIN_LIMIT bytes, that are spent on the part of a body that nobody reads."""

DRAIN_LIMIT = 2 * 1024 * 1024
STEP = 64 * 1024


class Body:
    """The body of one request, as `wsgi.input`. Werkzeug uses nothing but `read`.

    `length` is its Content-Length, or None if it comes in chunks.
    """

    def __init__(self, source: Any, length: int | None, socket: Any) -> None:
        self._source, self._left, self._socket = source, length, socket
        self._end = monotonic() + BODY_SECONDS
        self.complete = length == 0
        """Whether everything was read. If not, the next bytes on the connection are no request."""
        self._failed = False

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes. Raises OSError if the body ends early, is malformed, or does not arrive in time."""
        wanted = min(size, self._left) if self._left is not None and size >= 0 else size
        if self.complete or wanted == 0:
            return b""
        if self._failed:
            raise ConnectionError("the body is broken")
        self._failed = True  # Until this read has succeeded.
        with Limit(self._socket, self._end - monotonic()) if self._socket else nullcontext():
            data = self._read(wanted)
        if self._left is None:
            self.complete = len(data) < wanted or wanted < 0
        elif len(data) < (wanted if wanted >= 0 else self._left):
            raise ConnectionError("the body ended early")  # A form that was cut short must not count as a form.
        else:
            self._left -= len(data)
            self.complete = self._left == 0
        self._failed = False
        return data

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._source.read(size)
        except Exception as error:  # gunicorn has many kinds of exceptions for malformed chunks.
            raise ConnectionError(type(error).__name__) from error
        return data

    def drain(self) -> bool:
        """Drop what is left, within limits. Return whether nothing is left."""
        self._end = min(self._end, monotonic() + DRAIN_SECONDS)
        allowed = DRAIN_LIMIT
        try:
            while allowed > 0 and not self.complete:
                allowed -= len(self.read(STEP))
        except OSError:
            return False
        return self.complete


class Bodies:
    """WSGI middleware that puts a Body in place of `wsgi.input`. It must be the outermost one."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = None if "HTTP_TRANSFER_ENCODING" in environ else int(environ.get("CONTENT_LENGTH") or 0)
        if length == 0:
            return self.application(environ, start_response)
        body = environ["wsgi.input"] = Body(environ["wsgi.input"], length, environ.get("gunicorn.socket"))

        def start(*arguments: Any) -> Any:
            if not body.drain():
                _close_after_response(start_response)
            return start_response(*arguments)

        return self.application(environ, start)


def _close_after_response(start_response: Any) -> None:
    """Let gunicorn send Connection: close and end the connection. It ignores that header from an application."""
    if close := getattr(getattr(start_response, "__self__", None), "force_close", None):
        close()
