"""Defence 7: PayOnce itself: the application that the shop runs, with a temporary database."""

from pathlib import Path
from secrets import token_hex

import httpx
from flask import Flask

from app import create_app, current
from app.charges import recovery
from app.database import db
from app.gateways.base import Gateways
from app.gateways.sandbox.client import SandboxGateway
from app.orders.seed import seed
from app.settings import Settings
from lab.defences.payment_client import API_KEY


def create(bank_url: str, folder: Path, timeout: float, transport: httpx.BaseTransport) -> Flask:
    """Return the shop with the demo catalogue and a gateway that uses `transport`.

    `timeout` is the number of seconds for all tries of one payment together.
    """
    settings = Settings(
        secret_key=token_hex(32), database_url=f"sqlite:///{folder}/shop/shop.sqlite",
        payment_gateway="sandbox", sandbox_bank_url=bank_url, gateway_deadline=timeout, lab=False,
    )  # fmt: skip
    gateway = SandboxGateway(bank_url, API_KEY, shop=settings.shop_name, transport=transport)
    app = create_app(settings, Gateways(gateway, (gateway,)))
    with app.app_context():
        db.create_all()
        seed(settings.shop_currency)
        db.engine.dispose()
    return app


def recover(app: Flask) -> None:
    """Make one pass of recovery, with the code that `flask recover` runs."""
    with app.app_context():
        settings = current.settings()
        recovery.run(current.gateways(), settings.gateway_deadline, settings.action_window)
