"""A request that is still arriving: it is read without a thread until it is complete, too large or too late."""

import re
import socket
from contextlib import suppress
from enum import Enum
from time import monotonic

from gunicorn.http.unreader import SocketUnreader

SECONDS = 15.0
"""Within this time, all of a request must have arrived."""

HEAD_LIMIT = 64 * 1024
"""Bytes of a request line with all headers."""

BODY_LIMIT = 128 * 1024
"""Bytes of a body that are kept here. The program itself refuses less than that, with a page of its own."""

PIECE = 64 * 1024
HEAD_END = b"\r\n\r\n"
TRAILERS = 8 * 1024
"""Bytes at the end of a body in which its last chunk is searched."""

LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.I | re.M)
CHUNKED = re.compile(rb"^transfer-encoding[ \t]*:", re.I | re.M)
LAST_CHUNK = re.compile(rb"0+[ \t]*(?:;[^\r\n]*)?")
CONTINUE = re.compile(rb"^expect[ \t]*:[ \t]*100-continue", re.I | re.M)


class State(Enum):
    """How far a request has arrived."""

    WAITING = "more is expected"
    COMPLETE = "a thread can process it"
    HEAD_TOO_LARGE = "431"
    BODY_TOO_LARGE = "413"
    LATE = "408"
    ENDED = "the client has closed the connection"


class Arriving(SocketUnreader):
    """The bytes that a client has sent and that are not processed yet. gunicorn's parser reads from here."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.start()

    def start(self) -> None:
        """Begin to wait for a request. Its first bytes may have arrived together with the one before."""
        self.deadline = monotonic() + SECONDS
        self.bytes = bytearray(self.take_buffered())
        self.head_end = -1
        self.wanted: int | None = 0
        """The length of the body, or None if only its last chunk tells."""

    @property
    def is_silent(self) -> bool:
        """Return whether nothing of the request has arrived."""
        return not self.bytes

    def read_available(self) -> State:
        """Read what has arrived, without waiting. Return how far the request is then."""
        state = self._state(0)
        while state is State.WAITING:
            try:
                data = self.sock.recv(PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return state
            except OSError:
                return State.ENDED
            if not data:
                return State.ENDED
            self.bytes += data
            state = self._state(len(data))
        if state is State.COMPLETE:
            self.unread(bytes(self.bytes))
        return state

    def _state(self, new: int) -> State:
        """Look only for the end of the request, and only at the `new` last bytes. The parser checks everything."""
        if self.head_end < 0:
            self.head_end = self.bytes.find(HEAD_END, max(0, len(self.bytes) - new - len(HEAD_END)) if new else 0)
            if self.head_end < 0:
                return State.WAITING if len(self.bytes) <= HEAD_LIMIT else State.HEAD_TOO_LARGE
            self._read_head(bytes(self.bytes[: self.head_end + 2]))
        arrived = len(self.bytes) - self.head_end - len(HEAD_END)
        if self.head_end > HEAD_LIMIT:
            return State.HEAD_TOO_LARGE
        if max(self.wanted or 0, arrived if self.wanted is None else 0) > BODY_LIMIT:
            return State.BODY_TOO_LARGE
        complete = self._has_last_chunk() if self.wanted is None else arrived >= self.wanted
        return State.COMPLETE if complete else State.WAITING

    def _read_head(self, head: bytes) -> None:
        lengths = LENGTH.findall(head)
        if CHUNKED.search(head):
            self.wanted = None
        elif len(lengths) == 1:
            self.wanted = int(lengths[0])
        if self.wanted != 0 and CONTINUE.search(head):
            with suppress(OSError):
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)

    def _has_last_chunk(self) -> bool:
        """Return whether the body ends with the chunk of length 0, trailers and an empty line. Reads from its end."""
        start, end = max(self.head_end + 2, len(self.bytes) - TRAILERS), len(self.bytes) - len(HEAD_END)
        if not self.bytes.endswith(HEAD_END):
            return False
        while (before := self.bytes.rfind(b"\r\n", start, end)) >= 0 and before + 2 < end:
            if LAST_CHUNK.fullmatch(self.bytes, before + 2, end):
                return True
            end = before
        return False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return more bytes for the parser, which seldom needs them, or none if the deadline is over.

        gunicorn itself sets a time-out on the socket while it drops the rest of a body. The shorter of the two counts.
        """
        given = self.sock.gettimeout()
        left = max(self.deadline - monotonic(), 0.001)
        self.sock.settimeout(left if given is None else min(given, left))
        try:
            return bytes(super().chunk(size_hint))
        except TimeoutError:
            if monotonic() < self.deadline:
                raise
            self.sock.shutdown(socket.SHUT_RD)  # What comes later must not look like another request.
            return b""
        finally:
            self.sock.settimeout(given)
