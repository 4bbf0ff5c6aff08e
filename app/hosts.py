"""The host names under which the shop can be requested.

A page under another name could send its links and cookies there. Loopback names are for health checks from the same
machine only. A proxy that does not pass the header Host requests such a name, and every link would lead nowhere.
"""

from collections.abc import Iterable

import structlog
from flask import Flask, request
from werkzeug.exceptions import SecurityError

from app import networks

LOOPBACK = ("127.0.0.1", "localhost")

HEALTH_PATHS = ("/healthz", "/readyz", "/metrics")

log = structlog.get_logger()


def init_app(app: Flask, hosts: Iterable[str]) -> None:
    """Refuse all other host names, and loopback names except for health checks from this machine."""
    allowed = set(hosts)
    app.config["TRUSTED_HOSTS"] = [*allowed, *LOOPBACK]

    @app.before_request
    def _refuse_loopback_names() -> None:
        name = request.host.partition(":")[0]
        if name in LOOPBACK and name not in allowed and not _is_health_check():
            raise SecurityError(f"Host {request.host!r} is not trusted.")


def _is_health_check() -> bool:
    return request.path in HEALTH_PATHS and networks.is_loopback(request.remote_addr)


def log_refusal() -> None:
    """Log the host name of this request, which was refused, with what to do about it."""
    host = request.environ.get("HTTP_HOST", "")[:100]
    log.warning("host_refused", host=host, hint=_hint(host.partition(":")[0]))


def _hint(name: str) -> str:
    if name in LOOPBACK:
        return "the proxy must pass the header Host (nginx: proxy_set_header Host $host)"
    return "if it is a name of this shop, add it to SHOP_HOSTS"
