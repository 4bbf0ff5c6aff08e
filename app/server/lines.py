"""gunicorn's own log lines, in the form of the program's: one JSON object each, without card numbers and secrets."""

from typing import Any

from gunicorn.glogging import Logger

from app.logs import json_formatter


class JsonLines(Logger):
    """gunicorn's logger. Only the form of its lines differs."""

    def setup(self, cfg: Any) -> None:
        """Set up gunicorn's log as always, then exchange the form of its lines."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(json_formatter())
