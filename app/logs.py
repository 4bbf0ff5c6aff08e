"""Structured logs: one JSON object per line, with the request id and without card numbers, tokens and secrets.

Levels: `error` means that a person must look at it, `warning` that an outcome is not known yet or that something
works less well than it should, and `info` what this process did.
"""

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from math import inf
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

from app.charges.tokens import reference

log = structlog.get_logger()

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}

SECRET_NAMES = re.compile(r"card|cvc|token|secret|password|authorization|cookie", re.I)
DIGITS = re.compile(r"(?<![\w-])\d(?:[ -]?\d){11,18}(?![\w-])")
"""A card number: twelve to nineteen digits, with or without separators, that are not part of an id."""

EMAIL = re.compile(r"[^\s\"'<>(),;:/=]+@[^\s\"'<>(),;:/=]+")
"""An e-mail address, or the password and the host of a URL. Texts of libraries' exceptions may contain them."""


class Seldom:
    """Limits a line of the log to one a minute per process, so that a flood of requests is no flood of lines."""

    SECONDS = 60.0

    def __init__(self) -> None:
        self._last = -inf

    def __call__(self) -> bool:
        """Return whether the line may be logged now."""
        now = monotonic()
        if now - self._last < self.SECONDS:
            return False
        self._last = now
        return True


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace card numbers, e-mail addresses, and values whose name suggests a card or a secret, by "[redacted]"."""
    for name, value in event.items():
        if SECRET_NAMES.search(name):
            event[name] = "[redacted]"
        elif name == "receipt":
            event[name] = reference(str(value))  # The whole id is the secret address of the receipt.
        elif isinstance(value, str):
            event[name] = EMAIL.sub("[redacted]", DIGITS.sub("[redacted]", value))
    return event


def init_app(app: Flask) -> None:
    """Set up structlog. Give every request an id, which is also sent in the header X-Request-Id, and log its end."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )

    # Flask's own method would print the traceback unredacted, over many lines.
    app.log_exception = _log_exception  # type: ignore[method-assign]

    @app.before_request
    def _start_request() -> None:
        g.request_id, g.started = uuid4().hex, perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def _finish_request(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        _log_request(response.status_code)
        return response


def _log_exception(exc_info: Any) -> None:
    """Log an exception that no view expected, with its traceback, as one redacted line."""
    log.error("request_failed", method=_method(), endpoint=request.endpoint, exc_info=exc_info)


def json_formatter() -> logging.Formatter:
    """Return a formatter that writes the standard library's log lines in the same form as ours."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
    )


def request_id() -> str | None:
    """Return the id of this request, or of the request that claimed the charge which recovery works on."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return str(found) if found else None


def note_refusal(reason: str) -> None:
    """Note why this request was refused, for its line in the log and for /metrics."""
    g.refusal = reason


@contextmanager
def noted_refusals() -> Iterator[None]:
    """Note the type of each exception that leaves the block, such as "order_changed", as the reason of the refusal."""
    try:
        yield
    except Exception as refusal:
        note_refusal(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(refusal).__name__).lower())
        raise


def _log_request(status: int) -> None:
    """Log the end of the request: its rule, not its path, because the path of a receipt is secret."""
    write = log.info if status < 500 else log.warning if status == 503 else log.error
    known = {name: value for name in ("refusal", "receipt") if (value := g.get(name))}
    milliseconds = round((perf_counter() - g.get("started", perf_counter())) * 1000, 1)
    rule = request.url_rule.rule if request.url_rule else None
    write("request_finished", method=_method(), route=rule, status=status, duration_ms=milliseconds, **known)


def _method() -> str:
    """Return the request's method, or "other": a client can send any text as one, also a card number."""
    return request.method if request.method in METHODS else "other"
