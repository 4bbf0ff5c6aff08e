"""The same moment, on real sockets: every request is sent but for its last byte, then all last bytes at once."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from select import select
from urllib.parse import urlencode, urlsplit

from tests.page import Form


@dataclass
class Answer:
    """What came back, and how many seconds after the last byte was sent."""

    status: int
    location: str | None
    body: str
    seconds: float


class Post:
    """One connection with one form on it; nobody can act on it until `finish`."""

    def __init__(self, form: Form, origin: str | None = None) -> None:
        url = urlsplit(form.action)
        to = urlsplit(origin or form.action)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in form.page.shopper.client.cookies.jar)
        body = urlencode(form.fields).encode()
        head = [
            f"POST {url.path} HTTP/1.1", f"Host: {to.netloc}", f"Cookie: {cookies}", "Connection: close",
            "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}",
        ]  # fmt: skip
        self.socket = socket.create_connection((to.hostname or "", to.port or 80), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body[:-1])
        self.last = body[-1:]
        self.sent = 0.0

    def finish(self) -> "Post":
        """Send the last byte."""
        self.sent = time.monotonic()
        self.socket.sendall(self.last)
        return self

    def answered(self) -> bool:
        """Whether an answer has begun to arrive."""
        return bool(select([self.socket], [], [], 0)[0])

    def answer(self) -> Answer:
        """Wait for it, and hang up."""
        response = HTTPResponse(self.socket)
        response.begin()
        seconds = time.monotonic() - self.sent
        body = response.read().decode()
        self.socket.close()
        return Answer(response.status, response.getheader("Location"), body, seconds)


def all_at_once(posts: Sequence[Post]) -> list[Answer]:
    """The last bytes of all, one right after the other; then every answer."""
    for post in posts:
        post.finish()
    return [post.answer() for post in posts]
