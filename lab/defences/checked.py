"""Defence 4: a one-time token in the form, looked up before the charge and stored after it, kept for a day."""

from uuid import uuid4

from flask import Flask, redirect, request
from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection
from werkzeug.wrappers import Response

from lab.clock import DAY, Clock
from lab.defences import stall
from lab.defences.till import Till

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT);
CREATE TABLE IF NOT EXISTS used (token TEXT, order_id INTEGER, at REAL)
"""


def create(till: Till, books: Engine, clock: Clock) -> Flask:
    """The shop with a look, then a leap."""
    app = stall.open_stall(books, __name__, SCHEMA)

    @app.get("/")
    def form() -> str:
        return stall.page("offer", token=uuid4().hex)

    @app.post("/pay")
    def pay() -> Response:
        token = request.form["token"]
        with books.begin() as tx:
            order = _find(tx, token)
        if order is None:  # Between this look and the INSERT below, every twin has looked too.
            till.charge(stall.PRICE, stall.CURRENCY)
            with books.begin() as tx:
                order = stall.save(tx, "paid")
                given = {"token": token, "order": order, "now": clock.now()}
                tx.execute(text("INSERT INTO used (token, order_id, at) VALUES (:token, :order, :now)"), given)
        return redirect(f"receipts/{order}", 303)

    def _find(tx: Connection, token: str) -> int | None:
        tx.execute(text("DELETE FROM used WHERE at < :yesterday"), {"yesterday": clock.now() - DAY})
        return tx.execute(text("SELECT order_id FROM used WHERE token = :token"), {"token": token}).scalar()

    return app
