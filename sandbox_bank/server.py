"""Runs the sandbox bank as a process of its own, on the address that the shop asks it at."""

import socket
from typing import Any
from urllib.parse import urlsplit

import click
from flask import Flask
from gunicorn.app.base import BaseApplication

OPTIONS = {
    "workers": 1,
    "worker_class": "gthread",
    # A card that never answers holds its thread; lookups must still find one.
    "threads": 256,
    # Longer than shops keep an idle connection, so that it is they who close it.
    "keepalive": 30,
    # A slow charge in flight may end.
    "graceful_timeout": 10,
    "loglevel": "warning",
    "control_socket_disable": True,
}


class BankServer(BaseApplication):
    """gunicorn over a bank that is there already, and a socket that is bound already."""

    def __init__(self, bank: Flask, listener: socket.socket) -> None:
        self._bank = bank
        self._options = {**OPTIONS, "bind": f"fd://{listener.fileno()}"}
        super().__init__()

    def load_config(self) -> None:
        """Our options; neither files nor the command line count."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application that every worker serves."""
        return self._bank


def serve(bank: Flask, url: str) -> None:
    """Serve the bank at the address of `url` until SIGTERM or SIGINT. Raises OSError where it can't."""
    listener = _listen(url)
    click.echo(f"The sandbox bank listens at {url}", err=True)
    BankServer(bank, listener).run()


def _listen(url: str) -> socket.socket:
    """Bound here, before gunicorn: it would try a taken port for five seconds and log each time."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)
    family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    return listener
