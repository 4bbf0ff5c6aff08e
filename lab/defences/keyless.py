"""Defence 6: a unique token, committed first. But the bank gets no key, and a missing answer becomes a decline."""

from uuid import uuid4

from flask import Flask, redirect, request
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from lab.clock import Clock
from lab.defences import small_shop
from lab.defences.payment_client import BankSilent, PaymentClient

SCHEMA = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT UNIQUE)"


def create(client: PaymentClient, engine: Engine, _clock: Clock) -> Flask:
    """Return the shop that does nearly everything right."""
    app = small_shop.create_app(engine, __name__, SCHEMA)

    @app.get("/")
    def form() -> str:
        return small_shop.page("offer", token=uuid4().hex)

    @app.post("/pay")
    def pay() -> Response:
        token = request.form["token"]
        try:
            with engine.begin() as tx:
                order_id = small_shop.save(tx, "processing", token)
        except IntegrityError:
            return redirect(f"receipts/{small_shop.find(engine, token)}", 303)
        try:
            client.charge(small_shop.PRICE, small_shop.CURRENCY)
            _set_status(order_id, "paid")
        except BankSilent:
            _set_status(order_id, "declined")  # A guess. If it is wrong, the shopper pays again.
        return redirect(f"receipts/{order_id}", 303)

    def _set_status(order_id: int, status: str) -> None:
        row = {"status": status, "order_id": order_id}
        with engine.begin() as tx:
            tx.execute(text("UPDATE orders SET status = :status WHERE id = :order_id"), row)

    return app
