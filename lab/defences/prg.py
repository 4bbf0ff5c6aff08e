"""Defence 2: Post/Redirect/Get alone. A reload repeats a harmless GET. Nothing else is prevented."""

from flask import Flask, redirect
from sqlalchemy import Engine
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import small_shop
from lab.defences.payment_client import PaymentClient


def create(client: PaymentClient, engine: Engine, _clock: Clock) -> Flask:
    """Return the shop as a second tutorial improves it."""
    app = small_shop.create_app(engine, __name__)

    @app.get("/")
    def form() -> str:
        return small_shop.page("offer")

    @app.post("/pay")
    def pay() -> Response:
        client.charge(small_shop.PRICE, small_shop.CURRENCY)  # Every POST charges: no token identifies the form.
        with engine.begin() as tx:
            order_id = small_shop.save(tx, "paid")
        return redirect(f"receipts/{order_id}", 303)

    return app
