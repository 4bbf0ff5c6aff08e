"""The application that gunicorn and `flask --app wsgi` load.

The demonstration is added here, because `app` does not know it: the sandbox bank's commands and, if LAB is on, the
Lab. An image may leave both packages out. A setting that makes no sense stops the start with one line.
"""

import sys
from importlib.util import find_spec

import click
from flask import Flask

from app import create_app, current, timeouts, visits
from app.database import Unreachable, db, reading
from app.orders import currency
from app.settings import SettingsError


def add_demonstration(app: Flask) -> None:
    """Add what is installed of the sandbox bank's commands and the Lab. Raises SettingsError."""
    settings = current.settings()
    if find_spec("sandbox_bank"):
        from sandbox_bank.commands import sandbox

        app.cli.add_command(sandbox)
    if settings.has_lab and find_spec("lab"):
        import lab

        lab.init_app(app)
    elif settings.lab:
        raise SettingsError("LAB is on, but this installation was made without the Lab; unset LAB")


def refuse_without_timeouts() -> None:
    """Raise SettingsError if PostgreSQL lacks the time-outs. Do nothing if the database can't be reached."""
    try:
        with reading() as tx:
            names = timeouts.missing(tx)
    except Unreachable:
        return
    if names:
        raise SettingsError(f"the database has no {', '.join(names)}; run: flask --app wsgi db upgrade")


try:
    app = create_app()
    with app.app_context():
        add_demonstration(app)
        # Commands check the currency themselves: those that repair the database must start whatever it holds.
        if click.get_current_context(silent=True) is None:
            currency.refuse_other(current.settings().shop_currency)
            refuse_without_timeouts()
            visits.write_in_background(app)
            db.engine.dispose()  # A server forks after this, and forked processes must not share connections.
except SettingsError as error:
    sys.exit(f"PayOnce can't start: {error}")
