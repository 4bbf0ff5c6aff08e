"""Metrics for Prometheus: responses by endpoint and status, open charges by state and age."""

from collections.abc import Iterator

from flask import Flask, Response, request
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app.charges.models import Charge
from app.charges.states import PENDING
from app.database import Unreachable, from_now, reading

ANSWERS = Counter("payonce_answers", "Responses by endpoint and status.", ["endpoint", "status"])


class OpenCharges(Collector):
    """Counts open charges at each scrape, with an index that holds only open charges."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = GaugeMetricFamily("payonce_open_charges", "Charges not ended yet.", labels=["status"])
        oldest = GaugeMetricFamily("payonce_open_charge_age_seconds", "Age of the oldest.", labels=["status"])
        try:
            for status, count, age in _open():
                counts.add_metric([status], count)
                oldest.add_metric([status], age)
        except Unreachable:
            return  # No figure is better than a wrong one; /readyz gives the reason.
        yield counts
        yield oldest


def _open() -> list[tuple[str, int, float]]:
    query = (
        select(Charge.status, func.count(), func.min(Charge.created_at))
        .where(Charge.status.in_(sorted(PENDING)))
        .group_by(Charge.status)
    )
    with reading() as tx:
        now = tx.execute(select(from_now(0))).scalar_one()
        return [(status, count, (now - since).total_seconds()) for status, count, since in tx.execute(query)]


def init_app(app: Flask) -> None:
    """Count every response by its endpoint, never by its path: a receipt's path is secret."""

    @app.after_request
    def _count(response: Response) -> Response:
        ANSWERS.labels(request.endpoint or "none", response.status_code).inc()
        return response
