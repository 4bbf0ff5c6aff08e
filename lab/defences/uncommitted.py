"""Defence 5: the token in a unique column, but the gateway is asked before the commit, inside the transaction."""

from uuid import uuid4

from flask import Flask, redirect, request
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import stall
from lab.defences.till import Till

SCHEMA = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT UNIQUE)"


def create(till: Till, books: Engine, _clock: Clock) -> Flask:
    """The shop whose memory of the charge can be rolled back, though the charge can't."""
    app = stall.open_stall(books, __name__, SCHEMA)

    @app.get("/")
    def form() -> str:
        return stall.page("offer", token=uuid4().hex)

    @app.post("/pay")
    def pay() -> Response:
        token = request.form["token"]
        order: int | None
        try:
            with books.begin() as tx:
                order = stall.save(tx, "paid", token)
                till.charge(stall.PRICE, stall.CURRENCY)  # If this process dies now, the row was never there.
        except IntegrityError:
            order = stall.find(books, token)
        return redirect(f"receipts/{order}", 303)

    return app
