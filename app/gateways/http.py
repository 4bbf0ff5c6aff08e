"""What every gateway client that speaks HTTP shares: one deadline per question, errors that say whether a request
can have been sent, and answers of bounded size.
"""

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx
import structlog

from app.gateways.base import NotSent, Unknown

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Errors raised before the first byte of a request was sent; never for a kept-alive connection that breaks."""

_current = threading.local()


class Clients:
    """One httpx client per process, because forked processes must not share connections. Thread-safe."""

    def __init__(self, transport: httpx.BaseTransport | None, **options: Any) -> None:
        self._transport, self._options = transport, options
        self._clients: dict[int, httpx.Client] = {}

    def here(self) -> httpx.Client:
        """Return this process's client."""
        client = self._clients.get(os.getpid())
        if client is None:
            client = httpx.Client(
                transport=self._transport or DeadlineTransport(), trust_env=False,
                event_hooks={"request": [_name_request]}, **self._options,
            )  # fmt: skip
        return self._clients.setdefault(os.getpid(), client)

    def close(self) -> None:
        """Close this process's idle connections. The next question opens new ones."""
        if client := self._clients.pop(os.getpid(), None):
            client.close()


def _name_request(request: httpx.Request) -> None:
    """Send the request id of our log lines, so that the gateway's log can be searched for it."""
    if request_id := structlog.contextvars.get_contextvars().get("request_id"):
        request.headers["X-Request-Id"] = str(request_id)


@contextmanager
def gateway_errors(who: str) -> Iterator[None]:
    """Turn httpx errors into NotSent (nothing was sent to `who`) or Unknown (something may have arrived)."""
    try:
        yield
    except NEVER_SENT as error:
        raise NotSent(f"{who} could not be reached") from error
    except httpx.TimeoutException as error:
        raise Unknown(f"{who} did not answer in time") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise Unknown(f"the connection to {who} broke: {type(error).__name__}") from error


def read_bounded(parts: Iterable[bytes], largest: int, who: str) -> bytes:
    """Return the body of an answer. Raises Unknown if it is longer than `largest` bytes."""
    content = bytearray()
    for part in parts:
        content += part
        if len(content) > largest:
            raise Unknown(f"{who}'s answer was too large")
    return bytes(content)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything that this thread sends or reads inside the block, all addresses and reads together.

    httpx limits each read separately, so a server that sends single bytes could hold a thread forever.
    """
    _current.end = time.monotonic() + seconds
    try:
        yield
    finally:
        _current.end = None


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """Return the time-out for one step: the given one, but never more than the deadline leaves. Raises `late`."""
    end: float | None = getattr(_current, "end", None)
    limits = [timeout, None if end is None else end - time.monotonic()]
    left = min((limit for limit in limits if limit is not None), default=None)
    if left is not None and left <= 0:
        raise late("the deadline has passed")
    return left


class DeadlineStream(httpcore.NetworkStream):
    """A connection that keeps the thread's deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read at most `max_bytes`. Raises httpcore.ReadTimeout."""
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write the whole buffer. Raises httpcore.WriteTimeout."""
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return this connection with TLS. Raises httpcore.ConnectTimeout."""
        left = _left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        """Return what the underlying connection knows about itself."""
        return self._stream.get_extra_info(info)


class DeadlineBackend(httpcore.SyncBackend):
    """Opens connections that keep the deadline, also when a host name has several addresses."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that accepts, giving each an equal share of the time that is left.

        Raises httpcore.ConnectError or ConnectTimeout; nothing was sent then.
        """
        addresses = _addresses(host, port)
        end = None if timeout is None else time.monotonic() + timeout
        for number, address in enumerate(addresses):
            left = _left(None if end is None else end - time.monotonic(), httpcore.ConnectTimeout)
            share = left / (len(addresses) - number) if left is not None else None
            try:
                return DeadlineStream(super().connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number + 1 == len(addresses):
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class DeadlineTransport(httpx.HTTPTransport):
    """httpx's transport over connections that keep the deadline. It never retries."""

    def __init__(self) -> None:
        # An empty TLS context that is never used: loading all certificate authorities for it costs 20 ms per process.
        super().__init__(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, retries=0)
        # Idle connections are closed well before the bank closes them: a request on a closed one ends in doubt.
        self._pool = httpcore.ConnectionPool(
            max_connections=256,
            max_keepalive_connections=32,
            keepalive_expiry=5,
            retries=0,
            network_backend=DeadlineBackend(),
        )
