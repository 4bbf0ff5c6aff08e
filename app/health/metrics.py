"""Metrics for Prometheus: responses by endpoint and status, open charges by state and age, and alarms."""

from collections.abc import Iterator

from flask import Flask, Response, request
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app import counting
from app.charges import attention
from app.charges.models import Charge
from app.charges.states import PENDING
from app.database import Unreachable, from_now, reading

counting.install()
RESPONSES = Counter("payonce_answers", "Responses by endpoint and status.", ["endpoint", "status"])


class OpenCharges(Collector):
    """The number and age of open charges, read at each scrape. A partial index contains only these charges."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = GaugeMetricFamily("payonce_open_charges", "Charges that have not ended yet.", labels=["status"])
        oldest = GaugeMetricFamily(
            "payonce_open_charge_age_seconds", "Age of the oldest open charge.", labels=["status"]
        )
        alarms = GaugeMetricFamily(
            "payonce_attention", "What a person must look at; the audit says why.", labels=["kind", "status"]
        )
        try:
            for status, count, age in _open_charges():
                counts.add_metric([status], count)
                oldest.add_metric([status], age)
            for kind, status, count in attention.numbers():
                alarms.add_metric([kind, status], count)
        except Unreachable:
            return  # A missing figure is better than a wrong one. /readyz gives the reason.
        yield counts
        yield oldest
        yield alarms


def _open_charges() -> list[tuple[str, int, float]]:
    """Return (status, number of charges, seconds since the oldest was created)."""
    query = (
        select(Charge.status, func.count(), func.min(Charge.created_at))
        .where(Charge.status.in_(sorted(PENDING)))
        .group_by(Charge.status)
    )
    with reading() as tx:
        now = tx.execute(select(from_now(0))).scalar_one()
        return [(status, count, (now - since).total_seconds()) for status, count, since in tx.execute(query)]


def init_app(app: Flask) -> None:
    """Count every response by its endpoint. Its path is not used, because a receipt's path is secret."""

    @app.after_request
    def _count(response: Response) -> Response:
        RESPONSES.labels(request.endpoint or "none", response.status_code).inc()
        return response
