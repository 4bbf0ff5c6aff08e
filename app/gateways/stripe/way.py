"""How the provider's own library reaches the provider: over httpx, within a deadline, and without tries of its own.

What the library would make of a broken connection is one error for all of them; here a connection that could not
be opened (`NotSent`) stays apart from one that broke with the request on its way (`Unknown`).
"""

from collections.abc import Mapping
from typing import Any

import httpx
import stripe

from app.gateways.http import Clients, gateway_errors, read_bounded

LARGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that are read; a page of a hundred sessions has half a million."""

IDLE = 30.0
"""Seconds without a single byte before a question without a deadline (the statement) is given up."""

PROVIDER = "the provider"


class Way(stripe.HTTPClient):
    """The library's way out. Safe for threads, and for processes that fork."""

    name = "httpx"

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__()
        self._clients = Clients(transport, timeout=IDLE)

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One question, one answer; raises NotSent or Unknown, and says nothing of headers or body."""
        with (
            gateway_errors(PROVIDER),
            self._clients.here().stream(method, url, headers=headers, content=post_data) as response,
        ):
            return read_bounded(response.iter_bytes(), LARGEST_ANSWER, PROVIDER), response.status_code, response.headers

    def close(self) -> None:
        """Close this process's idle connections; the next question opens new ones."""
        self._clients.close()
