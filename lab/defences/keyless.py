"""Defence 6: unique token, committed first. But the gateway gets no key, and no answer is taken for a decline."""

from uuid import uuid4

from flask import Flask, redirect, request
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import stall
from lab.defences.till import BankSilent, Till

SCHEMA = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT UNIQUE)"


def create(till: Till, books: Engine, _clock: Clock) -> Flask:
    """The shop that does nearly everything right."""
    app = stall.open_stall(books, __name__, SCHEMA)

    @app.get("/")
    def form() -> str:
        return stall.page("offer", token=uuid4().hex)

    @app.post("/pay")
    def pay() -> Response:
        token = request.form["token"]
        try:
            with books.begin() as tx:
                order = stall.save(tx, "processing", token)
        except IntegrityError:
            return redirect(f"receipts/{stall.find(books, token)}", 303)
        try:
            till.charge(stall.PRICE, stall.CURRENCY)
            _end(order, "paid")
        except BankSilent:
            _end(order, "declined")  # A guess, and the shopper will act on it.
        return redirect(f"receipts/{order}", 303)

    def _end(order: int, status: str) -> None:
        with books.begin() as tx:
            tx.execute(text("UPDATE orders SET status = :status WHERE id = :order"), {"status": status, "order": order})

    return app
