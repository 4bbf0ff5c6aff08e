"""Structured logs: one JSON object per line, with the request id and without card numbers, tokens and secrets."""

import logging
import re
import sys
from collections.abc import MutableMapping
from math import inf
from time import monotonic
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

SECRET_NAMES = re.compile(r"card|cvc|token|secret|password|authorization|cookie", re.I)
DIGITS = re.compile(r"(?<![\w-])\d(?:[ -]?\d){11,18}(?![\w-])")
"""A card number: twelve to nineteen digits, with or without separators, that are not part of an id."""

EMAIL = re.compile(r"[^\s\"'<>(),;:/=]+@[^\s\"'<>(),;:/=]+")
"""An e-mail address, or the password and the host of a URL. Texts of libraries' exceptions may contain them."""

log = structlog.get_logger()


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
        elif isinstance(value, str):
            event[name] = EMAIL.sub("[redacted]", DIGITS.sub("[redacted]", value))
    return event


def init_app(app: Flask) -> None:
    """Set up structlog. Give every request an id, which is also sent in the header X-Request-Id."""
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

    # Flask's own would print the traceback as it is, over many lines.
    app.log_exception = _log_exception  # type: ignore[method-assign]

    @app.before_request
    def _start_request() -> None:
        g.request_id = uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def _send_request_id(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return response


def _log_exception(exc_info: Any) -> None:
    """Log an exception that no view expected, with its traceback, as one redacted line."""
    log.error("request_failed", method=request.method, endpoint=request.endpoint, exc_info=exc_info)
