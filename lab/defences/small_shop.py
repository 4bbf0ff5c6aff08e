"""The common parts of the six small shops: one product at one price, the form, receipts, and a table of orders."""

from pathlib import Path

from flask import Flask, render_template, request
from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection

from lab.defences.payment_client import BankSilent

PRICE, CURRENCY = 2400, "EUR"
ORDERS = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT)"
"""The schema of a shop that needs no unique token."""
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def create_app(engine: Engine, name: str, schema: str = ORDERS) -> Flask:
    """Return an application with its tables, a receipt page, and an error page for a payment without an answer."""
    with engine.begin() as tx:
        for statement in schema.split(";"):
            tx.execute(text(statement))
    app = Flask(name, template_folder=str(TEMPLATES), static_folder=None)

    @app.get("/receipts/<int:order_id>")
    def receipt(order_id: int) -> str:
        with engine.execution_options(reading=True).connect() as connection:
            query = text("SELECT status FROM orders WHERE id = :order_id")
            status = connection.execute(query, {"order_id": order_id}).scalar()
        return page(status or "unknown")

    @app.errorhandler(BankSilent)
    def failed(_error: BankSilent) -> tuple[str, int]:
        return page("failed", token=request.form.get("token", "")), 502

    return app


def page(told: str, *, token: str = "", script: bool = False) -> str:
    """Return the page for what the shopper is told.

    `told` is "offer" (the form), "failed" (the form again), "paid", "declined", "processing" or "unknown".
    """
    return render_template("lab/small_shop.html", told=told, token=token, script=script, root=request.script_root)


def find(engine: Engine, token: str) -> int | None:
    """Return the id of the order with this token, or None."""
    with engine.execution_options(reading=True).connect() as connection:
        return connection.execute(text("SELECT id FROM orders WHERE token = :token"), {"token": token}).scalar()


def save(tx: Connection, status: str, token: str | None = None) -> int:
    """Insert an order and return its id. Raises IntegrityError if the token is unique and already there."""
    row = tx.execute(
        text("INSERT INTO orders (token, status) VALUES (:token, :status)"), {"token": token, "status": status}
    )
    return int(row.lastrowid)
