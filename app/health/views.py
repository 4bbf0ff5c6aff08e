"""GET /healthz: the process answers. GET /readyz: it can take payments too. GET /metrics: for Prometheus."""

import os

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import text

from app.database import Unreachable, reading
from app.health.metrics import OpenCharges

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """200 as long as the process answers at all."""
    return _plain("alive")


@bp.get("/readyz")
def readyz() -> Response:
    """200 when the storage answers, 503 with the reason when it does not."""
    try:
        with reading() as tx:
            tx.execute(text("SELECT 1"))
    except Unreachable as error:
        return _plain(f"the database can't be reached: {error}", 503)
    return _plain("ready")


@bp.get("/metrics")
def metrics() -> Response:
    """All workers' figures together where PROMETHEUS_MULTIPROC_DIR is set, else this process's."""
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
