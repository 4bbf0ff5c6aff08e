"""The HTTP transport of the provider's library: httpx, one deadline per question, and no retries.

The library has one error for every broken connection. Here there are two: the connection could not be opened
(`NotSent`), or it broke after the request was sent (`Unknown`).
"""

from collections.abc import Mapping
from typing import Any

import httpx
import stripe

from app.gateways.http import Clients, gateway_errors, read_bounded

LARGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that are read. A page of a hundred sessions has half a million."""

IDLE = 30.0
"""Seconds without a single byte after which a question without a deadline (the statement) ends."""

PROVIDER = "the provider"


class StripeTransport(stripe.HTTPClient):
    """Sends the library's requests. Safe for threads and for processes that fork."""

    name = "httpx"

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__()
        self._clients = Clients(transport, timeout=IDLE)

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and return its answer. Raises NotSent or Unknown; errors never contain headers or body."""
        with (
            gateway_errors(PROVIDER),
            self._clients.here().stream(method, url, headers=headers, content=post_data) as response,
        ):
            return read_bounded(response.iter_bytes(), LARGEST_ANSWER, PROVIDER), response.status_code, response.headers

    def close(self) -> None:
        """Close this process's idle connections. The next question opens new ones."""
        self._clients.close()
