"""Many at the same moment, each inside the application."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flask import Flask

from tests.gateways import bank


def at_once(app: Flask, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returned, or the exception that it raised."""

    def within(call: Callable[[], Any]) -> Any:
        with app.app_context():
            return call()

    return bank.at_once(*[partial(within, call) for call in calls])
