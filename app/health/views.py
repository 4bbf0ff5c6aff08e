"""Endpoints for monitoring: /healthz (the process runs), /readyz (it can take payments), /metrics (for Prometheus)."""

import os

import structlog
from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.health import readiness
from app.health.metrics import OpenCharges

log = structlog.get_logger()
blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """GET /healthz: 200 if the process can respond at all."""
    return _plain("alive")


@blueprint.get("/readyz")
def readyz() -> Response:
    """GET /readyz: 200 if this process can take payments, else 503 with the reason, within readiness.SECONDS."""
    reason = readiness.reason()
    return _plain(reason or "ready", 503 if reason else 200)


@blueprint.get("/metrics")
def metrics() -> Response:
    """GET /metrics: the metrics of all workers if PROMETHEUS_MULTIPROC_DIR is set, else those of this process."""
    text = generate_latest(_open_charges())
    try:
        text = generate_latest(_counters()) + text
    except Exception as error:  # The folder is gone or a file is damaged. What the database knows is still true.
        log.error("metrics_unreadable", error=f"{type(error).__name__}: {error}")
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def _open_charges() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(OpenCharges())
    return registry


def _counters() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


def _plain(text: str, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8", headers=headers)
