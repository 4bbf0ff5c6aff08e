"""How the provider's own library reaches the provider: over httpx, within a deadline, and without tries of its own.

What the library would make of a broken connection is one error for all of them; here a connection that could not
be opened (`NotSent`) stays apart from one that broke with the request on its way (`Unknown`).
"""

import os
from collections.abc import Mapping
from typing import Any, NoReturn

import httpx
import stripe

from app.gateways.base import NotSent, Unknown
from app.gateways.deadlines import DeadlineTransport

LARGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that are read; a page of a hundred sessions has half a million."""

IDLE = 30.0
"""Seconds without a single byte before a question without a deadline (the statement) is given up."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Way(stripe.HTTPClient):
    """The library's way out. Safe for threads, and for processes that fork."""

    name = "httpx"

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__()
        self._transport = transport
        self._clients: dict[int, httpx.Client] = {}

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One question, one answer; raises NotSent or Unknown, and says nothing of headers or body."""
        try:
            return self._exchange(method, url, headers, post_data)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            _no_answer(error)

    def close(self) -> None:
        """Close this process's idle connections; the next question opens new ones."""
        if client := self._clients.pop(os.getpid(), None):
            client.close()

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        with self._client().stream(method, url, headers=headers, content=post_data) as response:
            content = bytearray()
            for part in response.iter_bytes():
                content += part
                if len(content) > LARGEST_ANSWER:
                    raise Unknown("the provider's answer was too large")
            return bytes(content), response.status_code, response.headers

    def _client(self) -> httpx.Client:
        """One client a process: connections must not be shared by processes that forked."""
        client = self._clients.get(os.getpid())
        if client is None:
            transport = self._transport or DeadlineTransport()
            client = httpx.Client(transport=transport, trust_env=False, timeout=IDLE)
        return self._clients.setdefault(os.getpid(), client)


def _no_answer(error: Exception) -> NoReturn:
    if isinstance(error, NEVER_SENT):
        raise NotSent("the provider could not be reached") from error
    if isinstance(error, httpx.TimeoutException):
        raise Unknown("the provider did not answer in time") from error
    raise Unknown(f"the connection to the provider broke: {type(error).__name__}") from error
