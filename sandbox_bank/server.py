"""Runs the sandbox bank in gunicorn, as a process of its own."""

import socket
from typing import Any
from urllib.parse import urlsplit

import click
from flask import Flask
from gunicorn.app.base import BaseApplication

OPTIONS = {
    "workers": 1,
    "worker_class": "gthread",
    # A card that never answers occupies a thread. Lookups must still get one.
    "threads": 256,
    # Longer than the shop keeps idle connections, so that the shop closes them and no request meets a closed one.
    "keepalive": 30,
    # Seconds in which running requests may finish, such as a charge to the slow card.
    "graceful_timeout": 10,
    "loglevel": "warning",
    "control_socket_disable": True,
}


class BankServer(BaseApplication):
    """Runs gunicorn for an application that exists already, on a socket that is bound already."""

    def __init__(self, bank: Flask, listener: socket.socket) -> None:
        self._bank = bank
        self._options = {**OPTIONS, "bind": f"fd://{listener.fileno()}"}
        super().__init__()

    def load_config(self) -> None:
        """Use OPTIONS. gunicorn's configuration files and command line are not read."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application that every worker serves."""
        return self._bank


def serve(bank: Flask, url: str) -> None:
    """Serve the bank at the address of `url` until SIGTERM or SIGINT. Raises OSError if it can't listen."""
    listener = _listen(url)
    click.echo(f"The sandbox bank listens at {url}", err=True)
    BankServer(bank, listener).run()


def _listen(url: str) -> socket.socket:
    """Return a bound socket. gunicorn itself would try a port in use for five seconds and log each try."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)
    family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    return listener
