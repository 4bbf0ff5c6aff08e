"""Defence 3: Post/Redirect/Get, and a script that disables the button after the first click."""

from flask import Flask, redirect
from sqlalchemy import Engine
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import small_shop
from lab.defences.payment_client import PaymentClient


def create(client: PaymentClient, engine: Engine, _clock: Clock) -> Flask:
    """Return the shop that relies on the browser."""
    app = small_shop.create_app(engine, __name__)

    @app.get("/")
    def form() -> str:
        return small_shop.page("offer", script=True)  # The script runs in the browser, if it runs at all.

    @app.post("/pay")
    def pay() -> Response:
        client.charge(small_shop.PRICE, small_shop.CURRENCY)
        with engine.begin() as tx:
            order_id = small_shop.save(tx, "paid")
        return redirect(f"receipts/{order_id}", 303)

    return app
