"""Trusted proxies: whose X-Forwarded-* headers the program believes."""

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Any

import structlog

from app import networks
from app.logs import Seldom

log = structlog.get_logger()

MOST_HOPS = 20
"""Addresses of X-Forwarded-For that are looked at, from the right. Nobody has more proxies of their own in a row."""


class TrustedProxies:
    """WSGI middleware: accept X-Forwarded-For and X-Forwarded-Proto only from trusted proxies."""

    def __init__(self, application: Callable[..., Iterable[bytes]], networks: Iterable[str]) -> None:
        self.application = application
        self.networks = [ip_network(network) for network in networks]
        self._seldom = Seldom()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._trusts(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = self._client(environ)
            if environ.get("HTTP_X_FORWARDED_PROTO") in {"http", "https"}:
                environ["wsgi.url_scheme"] = environ["HTTP_X_FORWARDED_PROTO"]
        elif "HTTP_X_FORWARDED_FOR" in environ and self._seldom():
            # Without it, all shoppers behind this proxy would share its limits. It may also be a client that lies.
            log.warning("proxy_not_trusted", peer=environ.get("REMOTE_ADDR"), setting="TRUSTED_PROXIES")
        return self.application(environ, start_response)

    def _client(self, environ: dict[str, Any]) -> str:
        """Return the last address that is not a trusted proxy. A client can forge everything to the left of it."""
        hops = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", MOST_HOPS)[-MOST_HOPS:]
        for hop in filter(None, map(str.strip, reversed(hops))):
            if not self._trusts(hop):
                return str(hop)
        return str(environ["REMOTE_ADDR"])

    def _trusts(self, address: str) -> bool:
        found = networks.parsed(address)
        return found is not None and any(found in network for network in self.networks)
