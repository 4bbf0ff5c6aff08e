"""Endpoints for monitoring: /healthz (the process runs), /readyz (it can take payments), /metrics (for Prometheus)."""

import os

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import text
from sqlalchemy.engine import Connection

from app import timeouts
from app.database import Unreachable, reading
from app.health.metrics import OpenCharges

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """GET /healthz: 200 if the process can respond at all."""
    return _plain("alive")


@blueprint.get("/readyz")
def readyz() -> Response:
    """GET /readyz: 200 if the database can take payments, else 503 with the reason."""
    try:
        with reading() as tx:
            reason = _not_ready(tx)
    except Unreachable as error:
        reason = f"the database can't be reached: {error}"
    return _plain(reason or "ready", 503 if reason else 200)


def _not_ready(connection: Connection) -> str | None:
    """Return why the database can't take payments, or None."""
    if connection.dialect.name != "postgresql":
        connection.execute(text("SELECT 1"))
        return None
    if connection.execute(text("SHOW transaction_read_only")).scalar() == "on":
        return "the database is read-only"
    if names := timeouts.missing(connection):
        return f"the database has no {', '.join(names)}; run: flask --app wsgi db upgrade"
    return None


@blueprint.get("/metrics")
def metrics() -> Response:
    """GET /metrics: the metrics of all workers if PROMETHEUS_MULTIPROC_DIR is set, else those of this process."""
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
