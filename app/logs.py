"""Structured logs: one JSON object per line, with the request id, and never a card number, token or secret."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, g

SECRET_NAMES = re.compile(r"card|cvc|token|secret|password|authorization|cookie", re.I)
DIGITS = re.compile(r"(?<![\w-])\d(?:[ -]?\d){11,18}(?![\w-])")
"""Twelve to nineteen digits, with or without separators, that are not part of an id: what a card number looks like."""


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove every value that looks like a card number or is named like a secret."""
    for name, value in event.items():
        if SECRET_NAMES.search(name):
            event[name] = "[redacted]"
        elif isinstance(value, str):
            event[name] = DIGITS.sub("[redacted]", value)
    return event


def init_app(app: Flask) -> None:
    """Set up structlog, and give every request an id, which is also in the response's headers."""
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

    @app.before_request
    def _begin() -> None:
        g.request_id = uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def _answer(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return response
