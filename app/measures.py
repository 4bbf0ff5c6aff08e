"""The program's own metrics for Prometheus. Counting never fails what is counted (see counting.py).

Names, units and helps are those of Prometheus' conventions. `app/health/metrics.py` adds what the database knows.
"""

from collections.abc import Callable
from functools import wraps
from time import perf_counter
from typing import ParamSpec, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from app import counting

counting.install()

Params = ParamSpec("Params")
Result = TypeVar("Result")

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets, in seconds."""

RESPONSES = Counter("payonce_http_responses", "Responses by endpoint and status.", ["endpoint", "status"])
REQUEST_SECONDS = Histogram(
    "payonce_http_request_duration_seconds", "Time from a request's arrival to its response.", ["endpoint"],
    buckets=SHORT,
)  # fmt: skip
REFUSALS = Counter("payonce_refusals", "Requests that were refused, by reason.", ["reason"])
OUTCOMES = Counter("payonce_outcomes", "Outcomes that this process recorded.", ["kind", "outcome"])
DUPLICATES = Counter("payonce_duplicates_stopped", "Forms that arrived for a charge that exists, by kind.", ["kind"])
CLAIM_SECONDS = Histogram("payonce_claim_duration_seconds", "Time that claims took.", buckets=SHORT)
RECORD_SECONDS = Histogram("payonce_record_duration_seconds", "Time that recording outcomes took.", buckets=SHORT)
QUESTION_SECONDS = Histogram(
    "payonce_gateway_question_duration_seconds", "Time that gateways took to answer.",
    ["gateway", "question", "result"], buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)  # fmt: skip
GATEWAY_WAITING = Gauge(
    "payonce_gateway_waiting_requests", "Requests that wait for a gateway now.", multiprocess_mode="livesum"
)
GATEWAY_PLACES = Gauge(
    "payonce_gateway_waiting_limit", "Requests that may wait for a gateway.", multiprocess_mode="livesum"
)
POOL_IN_USE = Gauge(
    "payonce_pool_connections_in_use", "Database connections in use now.", multiprocess_mode="livesum"
)  # fmt: skip
POOL_LIMIT = Gauge("payonce_pool_connections_limit", "Database connections allowed.", multiprocess_mode="livesum")

KNOWN = {
    "charges": ("succeeded", "declined", "canceled", "requires_action", "in_doubt", "stray"),
    "refunds": ("succeeded", "declined", "failed", "withdrawn", "in_doubt"),
}
"""Outcomes per kind. They are shown from the start, because Prometheus does not see a counter rise that begins at 1."""

for _kind, _outcomes in KNOWN.items():
    for _outcome in _outcomes:
        OUTCOMES.labels(_kind, _outcome)
for _kind in ("same_form", "other_form", "same_order"):
    DUPLICATES.labels(_kind)


def timed(histogram: Histogram) -> Callable[[Callable[Params, Result]], Callable[Params, Result]]:
    """Decorate a function: observe how long each call takes, also if it raises."""

    def decorate(function: Callable[Params, Result]) -> Callable[Params, Result]:
        @wraps(function)
        def measured(*args: Params.args, **kwargs: Params.kwargs) -> Result:
            started = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                histogram.observe(perf_counter() - started)

        return measured

    return decorate


def gateway_places(waiting: int, limit: int) -> None:
    """Show how many requests of this process wait for a gateway, and how many may. Call it whenever that changes."""
    GATEWAY_WAITING.set(waiting)
    GATEWAY_PLACES.set(limit)


def pool_connections(in_use: int, limit: int) -> None:
    """Show how many database connections of this process are in use, and how many may be."""
    POOL_IN_USE.set(in_use)
    POOL_LIMIT.set(limit)


def outcomes() -> dict[tuple[str, str], float]:
    """Return how often this process has recorded each (kind, outcome)."""
    samples = [sample for metric in OUTCOMES.collect() for sample in metric.samples if sample.name.endswith("_total")]
    return {(sample.labels["kind"], sample.labels["outcome"]): sample.value for sample in samples}
