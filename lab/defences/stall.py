"""What the six stalls share: one mug at one price, the page with the form, receipts, and a table of orders."""

from pathlib import Path

from flask import Flask, render_template, request
from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection

from lab.defences.till import BankSilent

PRICE, CURRENCY = 2400, "EUR"
ORDERS = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, token TEXT)"
"""What a stall without tokens stores."""
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def open_stall(books: Engine, name: str, schema: str = ORDERS) -> Flask:
    """An app of its own with its table, its receipts, and a page for a payment that failed on the way."""
    with books.begin() as tx:
        for statement in schema.split(";"):
            tx.execute(text(statement))
    app = Flask(name, template_folder=str(TEMPLATES), static_folder=None)

    @app.get("/receipts/<int:order>")
    def receipt(order: int) -> str:
        with books.execution_options(reading=True).connect() as look:
            status = look.execute(text("SELECT status FROM orders WHERE id = :order"), {"order": order}).scalar()
        return page(status or "unknown")

    @app.errorhandler(BankSilent)
    def failed(_error: BankSilent) -> tuple[str, int]:
        return page("failed", token=request.form.get("token", "")), 502

    return app


def page(told: str, *, token: str = "", script: bool = False) -> str:
    """What the shopper is told: "offer" (the form), "paid", "declined", "processing" or "failed"."""
    return render_template("lab/stall.html", told=told, token=token, script=script, root=request.script_root)


def find(books: Engine, token: str) -> int | None:
    """The order with this token."""
    with books.execution_options(reading=True).connect() as look:
        return look.execute(text("SELECT id FROM orders WHERE token = :token"), {"token": token}).scalar()


def save(tx: Connection, status: str, token: str | None = None) -> int:
    """A new order. Raises IntegrityError where the schema says that there is one with this token."""
    row = tx.execute(
        text("INSERT INTO orders (token, status) VALUES (:token, :status)"), {"token": token, "status": status}
    )
    return int(row.lastrowid)
