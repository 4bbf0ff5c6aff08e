"""Addresses that are dead, and host names that have several addresses, on this machine."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest


@contextmanager
def dropping(addresses: Sequence[str], port: int) -> Iterator[None]:
    """Let these addresses of 127.0.0.0/8 drop every attempt to connect to the port, as a lost host does.

    The queue of a listener that accepts nothing is full, so Linux drops every further SYN.
    """
    with ExitStack() as stack:
        for address in addresses:
            listener = stack.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen(0)
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((address, port))
        yield


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str, name: str = "localhost") -> None:
    """Make this host name resolve to these addresses, in this order. It replaces only the look-up."""
    real = socket.getaddrinfo

    def found(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        hosts = addresses if host == name else (host,)
        return [each for address in hosts for each in real(address, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
