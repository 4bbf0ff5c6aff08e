"""Run functions at the same time, each in a thread and an app context of its own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flask import Flask

from tests.gateways import bank


def at_once(app: Flask, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return what each call returned, or the exception that it raised, in the order of `calls`."""

    def in_context(call: Callable[[], Any]) -> Any:
        with app.app_context():
            return call()

    return bank.at_once(*[partial(in_context, call) for call in calls])
