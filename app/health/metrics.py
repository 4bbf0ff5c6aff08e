"""Metrics for Prometheus: what the workers count (app/measures.py), and what is read from the database at each scrape.

Recovery is a process of its own that nobody scrapes, so what it does is counted in the database.
"""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from flask import Flask, Response, g, request
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import measures
from app.charges import attention, progress
from app.database import Unreachable, db


class Stored(Collector):
    """Figures from the database. If it can't be reached, only that is shown: no figure is better than a wrong one."""

    def collect(self) -> Iterator[Metric]:
        """Read everything. Partial indexes contain only the rows that are counted."""
        reached = GaugeMetricFamily("payonce_database_reachable", "1 if the database answered this scrape, else 0.")
        try:
            found = [*_open_items(), _attention(), *_recovery(), *_audit()]
        except Unreachable:
            found = []
        reached.add_metric([], 1 if found else 0)
        yield reached
        yield from found


def _open_items() -> list[Metric]:
    labels = ["kind", "status"]
    numbers = GaugeMetricFamily("payonce_open_items", "Charges, refunds and e-mails that are open.", labels=labels)
    ages = GaugeMetricFamily("payonce_open_item_age_seconds", "Age of the oldest open one.", labels=labels)
    for kind, status, number, age in progress.left():
        numbers.add_metric([kind, status], number)
        ages.add_metric([kind, status], age)
    return [numbers, ages]


def _attention() -> Metric:
    alarms = GaugeMetricFamily(
        "payonce_attention", "What a person must look at; the audit says why.", labels=["kind", "status"]
    )
    for kind, status, number in attention.numbers():
        alarms.add_metric([kind, status], number)
    return alarms


def _recovery() -> list[Metric]:
    total = CounterMetricFamily(
        "payonce_recovery_items", "What all recovery workers have done, by kind and result.", labels=["kind", "result"]
    )
    age = GaugeMetricFamily(
        "payonce_recovery_pass_age_seconds", "Time since a recovery worker last noted a pass.", labels=["kind"]
    )
    for kind, result, number, seconds in progress.done():
        total.add_metric([kind, result], number)
        if result == "processed":
            age.add_metric([kind], seconds)
    return [total, age]


def _audit() -> list[Metric]:
    last = progress.last_audit()
    if last is None:
        return []
    broken = GaugeMetricFamily("payonce_audit_broken_invariants", "Invariants that the last audit found broken.")
    age = GaugeMetricFamily("payonce_audit_age_seconds", "Time since the last audit ended.")
    took = GaugeMetricFamily("payonce_audit_duration_seconds", "Time that the last audit took.")
    for metric, value in ((broken, last.broken), (age, last.age), (took, last.seconds)):
        metric.add_metric([], value)
    return [broken, age, took]


def _show_pool() -> None:
    """Show how much of this process's pool its other threads use at the end of a request."""
    pool: Any = db.engine.pool
    if db.engine.dialect.name == "postgresql":
        measures.pool_connections(pool.checkedout(), pool.size() + max(0, pool._max_overflow))


def init_app(app: Flask) -> None:
    """Count every response by its endpoint. Its path is not used, because a receipt's path is secret."""

    @app.after_request
    def _count(response: Response) -> Response:
        endpoint = request.endpoint or "none"
        measures.RESPONSES.labels(endpoint, response.status_code).inc()
        if started := g.get("started"):
            measures.REQUEST_SECONDS.labels(endpoint).observe(perf_counter() - started)
        _show_pool()
        if refusal := g.get("refusal"):
            measures.REFUSALS.labels(refusal).inc()
        return response
