"""Many at the same moment: threads that start together, each inside the application."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from flask import Flask


def at_once(app: Flask, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returned, or the exception that it raised."""
    start = Barrier(len(calls), timeout=60)

    def run(call: Callable[[], Any]) -> Any:
        with app.app_context():
            start.wait()
            try:
                return call()
            except Exception as error:
                return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))
