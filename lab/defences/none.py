"""Defence 1: none. The form is posted, the card is charged, the receipt is the answer of the POST."""

from flask import Flask
from sqlalchemy import Engine

from lab.clock import Clock
from lab.defences import stall
from lab.defences.till import Till


def create(till: Till, books: Engine, _clock: Clock) -> Flask:
    """The shop as a first tutorial writes it."""
    app = stall.open_stall(books, __name__)

    @app.get("/")
    def form() -> str:
        return stall.page("offer")

    @app.post("/pay")
    def pay() -> str:
        till.charge(stall.PRICE, stall.CURRENCY)
        with books.begin() as tx:
            stall.save(tx, "paid")
        return stall.page("paid")  # The browser now stands on a POST: reload sends it again.

    return app
