"""Endpoints for monitoring: /healthz (the process runs), /readyz (it can take payments), /metrics (for Prometheus)."""

import os
from hmac import compare_digest

import structlog
from flask import Blueprint, Response, abort, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app import current, networks
from app.health import readiness
from app.health.metrics import Stored

blueprint = Blueprint("health", __name__)
log = structlog.get_logger()


@blueprint.get("/healthz")
def healthz() -> Response:
    """GET /healthz: 200 if the process can respond at all."""
    return _plain("alive")


@blueprint.get("/readyz")
def readyz() -> Response:
    """GET /readyz: 200 if this process can take payments, else 503 with the reason, within readiness.SECONDS."""
    reason = readiness.reason()
    return _plain(reason or "ready", 503 if reason else 200)


FORWARDED = ("X-FORWARDED-", "FORWARDED", "VIA", "X-REAL-IP")
"""Beginnings of the names of headers that a proxy adds. A request with one was not made on this machine."""


@blueprint.get("/metrics")
def metrics() -> Response:
    """GET /metrics: the metrics of all workers if PROMETHEUS_MULTIPROC_DIR is set, else those of this process.

    Without METRICS_TOKEN as a bearer token, only for programs on this machine; others get a 404.
    """
    if not (_has_token() or _is_local()):
        abort(404)
    text = generate_latest(_stored())
    try:
        text = generate_latest(_counters()) + text
    except Exception as error:  # The folder is gone or a file is damaged. What the database knows is still true.
        log.error("metrics_unreadable", error=f"{type(error).__name__}: {error}")
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def _stored() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Stored())
    return registry


def _counters() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


def _has_token() -> bool:
    token = current.settings().metrics_token
    given = request.authorization.token if request.authorization else None
    return bool(token and given) and compare_digest(token.encode(), str(given).encode())


def _is_local() -> bool:
    """Return whether the request comes from this machine and went through no proxy."""
    local = networks.is_loopback(request.remote_addr)
    return local and not [name for name, _ in request.headers if name.upper().startswith(FORWARDED)]


def _plain(text: str, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8", headers=headers)
