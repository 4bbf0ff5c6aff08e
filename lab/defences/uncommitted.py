"""Defence 5: the token has a unique key, but the bank is asked inside the transaction, before the commit."""

from uuid import uuid4

from flask import Flask, redirect, request
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import small_shop
from lab.defences.payment_client import PaymentClient

SCHEMA = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT UNIQUE)"


def create(client: PaymentClient, engine: Engine, _clock: Clock) -> Flask:
    """Return the shop whose record of the charge can be rolled back, although the charge can't."""
    app = small_shop.create_app(engine, __name__, SCHEMA)

    @app.get("/")
    def form() -> str:
        return small_shop.page("offer", token=uuid4().hex)

    @app.post("/pay")
    def pay() -> Response:
        token = request.form["token"]
        order_id: int | None
        try:
            with engine.begin() as tx:
                order_id = small_shop.save(tx, "paid", token)
                client.charge(small_shop.PRICE, small_shop.CURRENCY)  # A crash now undoes the INSERT only.
        except IntegrityError:
            order_id = small_shop.find(engine, token)
        return redirect(f"receipts/{order_id}", 303)

    return app
