"""What gunicorn and `flask --app wsgi` load. A setting that makes no sense ends the start with one line."""

import sys

import click

from app import create_app
from app.database import db
from app.orders import currency
from app.settings import SettingsError

try:
    app = create_app()
    # Commands look for themselves: those that mend the database must start whatever stands in it.
    if click.get_current_context(silent=True) is None:
        with app.app_context():
            currency.refuse_other(app.config["SETTINGS"].shop_currency)
            db.engine.dispose()  # A server forks after this: no connection may be shared.
except SettingsError as error:
    sys.exit(f"PayOnce can't start: {error}")
