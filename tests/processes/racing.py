"""Simultaneous requests on real sockets: each is sent except for its last byte, then all last bytes at once."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from select import select
from urllib.parse import urlencode, urlsplit

from tests.page import Form


@dataclass
class HttpAnswer:
    """An HTTP answer. `seconds` is the time between the request's last byte and the answer's head."""

    status: int
    location: str | None
    body: str
    seconds: float


class Post:
    """A connection on which a form has been sent except for its last byte, so that no server can process it yet."""

    def __init__(self, form: Form, origin: str | None = None) -> None:
        url = urlsplit(form.action)
        server = urlsplit(origin or form.action)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in form.page.shopper.client.cookies.jar)
        body = urlencode(form.fields).encode()
        head = [
            f"POST {url.path} HTTP/1.1", f"Host: {server.netloc}", f"Cookie: {cookies}", "Connection: close",
            "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}",
        ]  # fmt: skip
        self.socket = socket.create_connection((server.hostname or "", server.port or 80), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body[:-1])
        self.last_byte = body[-1:]
        self.finished_at = 0.0

    def finish(self) -> "Post":
        """Send the last byte."""
        self.finished_at = time.monotonic()
        self.socket.sendall(self.last_byte)
        return self

    def is_answered(self) -> bool:
        """Return whether an answer has begun to arrive."""
        return bool(select([self.socket], [], [], 0)[0])

    def answer(self) -> HttpAnswer:
        """Wait for the answer, read it and close the connection."""
        response = HTTPResponse(self.socket)
        response.begin()
        seconds = time.monotonic() - self.finished_at
        body = response.read().decode()
        self.socket.close()
        return HttpAnswer(response.status, response.getheader("Location"), body, seconds)


def all_at_once(posts: Sequence[Post]) -> list[HttpAnswer]:
    """Send the last bytes of all posts, one immediately after the other. Return their answers in the same order."""
    for post in posts:
        post.finish()
    return [post.answer() for post in posts]
