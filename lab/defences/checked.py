"""Defence 4: a one-time token in the form, looked up before the charge, stored after it, and kept for a day."""

from uuid import uuid4

from flask import Flask, redirect, request
from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection
from werkzeug.wrappers import Response

from lab.clock import DAY, Clock
from lab.defences import small_shop
from lab.defences.payment_client import PaymentClient

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT);
CREATE TABLE IF NOT EXISTS used (token TEXT, order_id INTEGER, at REAL)
"""


def create(client: PaymentClient, engine: Engine, clock: Clock) -> Flask:
    """Return the shop that checks first and stores later."""
    app = small_shop.create_app(engine, __name__, SCHEMA)

    @app.get("/")
    def form() -> str:
        return small_shop.page("offer", token=uuid4().hex)

    @app.post("/pay")
    def pay() -> Response:
        token = request.form["token"]
        with engine.begin() as tx:
            order_id = _find(tx, token)
        if order_id is None:  # Twins all get here before the first of them has run the INSERT below.
            client.charge(small_shop.PRICE, small_shop.CURRENCY)
            with engine.begin() as tx:
                order_id = small_shop.save(tx, "paid")
                row = {"token": token, "order_id": order_id, "now": clock.now()}
                tx.execute(text("INSERT INTO used (token, order_id, at) VALUES (:token, :order_id, :now)"), row)
        return redirect(f"receipts/{order_id}", 303)

    def _find(tx: Connection, token: str) -> int | None:
        tx.execute(text("DELETE FROM used WHERE at < :yesterday"), {"yesterday": clock.now() - DAY})
        return tx.execute(text("SELECT order_id FROM used WHERE token = :token"), {"token": token}).scalar()

    return app
