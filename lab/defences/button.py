"""Defence 3: Post/Redirect/Get, and a script that disables the button after the first click."""

from flask import Flask, redirect
from sqlalchemy import Engine
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import stall
from lab.defences.till import Till


def create(till: Till, books: Engine, _clock: Clock) -> Flask:
    """The shop that asks the browser to be careful."""
    app = stall.open_stall(books, __name__)

    @app.get("/")
    def form() -> str:
        return stall.page("offer", script=True)  # The guard runs on a machine that is not ours, if it runs.

    @app.post("/pay")
    def pay() -> Response:
        till.charge(stall.PRICE, stall.CURRENCY)
        with books.begin() as tx:
            order = stall.save(tx, "paid")
        return redirect(f"receipts/{order}", 303)

    return app
