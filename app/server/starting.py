"""Warnings at the start about settings that are valid, but do not fit the number of workers or are not safe."""

import os

import structlog
from flask import Flask

from app import current, engines
from app.database import Unreachable, db, reading

log = structlog.get_logger()


def warn(app: Flask, workers: int) -> None:
    """Log a line if the database has too few connections for `workers`, or if each worker would count for itself.

    Log one if the program runs as root as well: a fault in it would then give away the whole machine.
    """
    if os.geteuid() == 0:
        log.warning("runs_as_root")
    with app.app_context():
        if workers > 1 and current.settings().limits_storage_url.startswith("memory"):
            # Each limit is then multiplied by the number of workers.
            log.warning("limits_per_worker", workers=workers, setting="LIMITS_STORAGE_URL")
        if reason := _scarce_connections(workers):
            log.warning("database_connections_scarce", reason=reason)


def _scarce_connections(workers: int) -> str | None:
    try:
        with reading() as tx:
            return engines.scarce(tx, workers)
    except Unreachable:
        return None
    finally:
        db.engine.dispose()  # The workers are forked after this.
