"""GET /healthz: the process runs. GET /readyz: it can take payments. GET /metrics: for Prometheus."""

import os

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import text

from app.database import Unreachable, reading
from app.health.metrics import OpenCharges

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """GET /healthz: 200 if the process can answer at all."""
    return _plain("alive")


@blueprint.get("/readyz")
def readyz() -> Response:
    """GET /readyz: 200 if the database answers, else 503 with the reason."""
    try:
        with reading() as tx:
            tx.execute(text("SELECT 1"))
    except Unreachable as error:
        return _plain(f"the database can't be reached: {error}", 503)
    return _plain("ready")


@blueprint.get("/metrics")
def metrics() -> Response:
    """GET /metrics: the figures of all workers if PROMETHEUS_MULTIPROC_DIR is set, else of this process."""
    registry = CollectorRegistry()
    registry.register(OpenCharges())
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(REGISTRY)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _plain(text: str, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8", headers=headers)
