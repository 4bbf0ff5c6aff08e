"""Defence 1: none. The response to the POST is the receipt itself."""

from flask import Flask
from sqlalchemy import Engine

from lab.clock import Clock
from lab.defences import small_shop
from lab.defences.payment_client import PaymentClient


def create(client: PaymentClient, engine: Engine, _clock: Clock) -> Flask:
    """Return the shop as a first tutorial writes it."""
    app = small_shop.create_app(engine, __name__)

    @app.get("/")
    def form() -> str:
        return small_shop.page("offer")

    @app.post("/pay")
    def pay() -> str:
        client.charge(small_shop.PRICE, small_shop.CURRENCY)
        with engine.begin() as tx:
            small_shop.save(tx, "paid")
        return small_shop.page("paid")  # The page is the result of a POST: a reload sends it again.

    return app
