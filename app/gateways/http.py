"""How gateways are reached over HTTP: a client a process, answers of bounded size, and failures told apart."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from app.gateways.base import NotSent, Unknown
from app.gateways.deadlines import DeadlineTransport

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Failures before the first byte of the request left; a kept-alive connection that breaks is none of them."""


class Clients:
    """One client a process: connections must not be shared by processes that forked. Safe for threads."""

    def __init__(self, transport: httpx.BaseTransport | None, **options: Any) -> None:
        self._transport, self._options = transport, options
        self._clients: dict[int, httpx.Client] = {}

    def here(self) -> httpx.Client:
        """This process's own."""
        client = self._clients.get(os.getpid())
        if client is None:
            client = httpx.Client(transport=self._transport or DeadlineTransport(), trust_env=False, **self._options)
        return self._clients.setdefault(os.getpid(), client)

    def close(self) -> None:
        """Close this process's idle connections; the next question opens new ones."""
        if client := self._clients.pop(os.getpid(), None):
            client.close()


@contextmanager
def told_apart(who: str) -> Iterator[None]:
    """Raises NotSent where nothing can have been sent, and Unknown for every other failure on the way to `who`."""
    try:
        yield
    except NEVER_SENT as error:
        raise NotSent(f"{who} could not be reached") from error
    except httpx.TimeoutException as error:
        raise Unknown(f"{who} did not answer in time") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise Unknown(f"the connection to {who} broke: {type(error).__name__}") from error


def whole(parts: Iterable[bytes], largest: int, who: str) -> bytes:
    """The body of an answer of `who`. Raises Unknown where it has more bytes than any true one."""
    content = bytearray()
    for part in parts:
        content += part
        if len(content) > largest:
            raise Unknown(f"{who}'s answer was too large")
    return bytes(content)
