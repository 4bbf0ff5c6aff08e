"""Rows vanish between two transactions of a payment, as when a standby that lags behind takes over.

They vanish at each point of the payment and of its repetition: orders, products, charges or guards. In each
case the shopper gets a page with true words about money, never an error of ours.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, event, text

from app.charges import protocol
from app.charges.rows import RowLost
from app.database import db
from tests.charges.gateways import ScriptedGateway
from tests.factories import checkout_form, fill_basket, order, product, purchase
from tests.page import Form, Page
from tests.shops import Shop

GUARDS = ("DELETE FROM same_order_charge", "DELETE FROM same_order")
CHARGES = (
    *GUARDS, "DELETE FROM outbox_email", "DELETE FROM ledger_entry", "DELETE FROM charge_line", "DELETE FROM charge",
    "UPDATE orders SET state = 'open'", "UPDATE product SET stock = stocked",
)  # fmt: skip
ORDERS = (*CHARGES, "DELETE FROM order_line", "DELETE FROM orders")
PRODUCTS = (*ORDERS, "DELETE FROM product WHERE slug LIKE 'thing-%'")
VANISH = {"guards": GUARDS, "charges": CHARGES, "orders": ORDERS, "products": PRODUCTS}

DENIALS = ("took no money", "Nothing was charged", "No money was taken")
MOST_POINTS = 60


class Vanisher:
    """Runs statements in a connection of its own, right before the program takes its `at`th connection."""

    def __init__(self, shop: Shop, statements: tuple[str, ...]) -> None:
        self.engine = create_engine(shop.database_url)
        self.statements = statements
        self.at, self.seen = 0, 0
        with self.engine.begin() as connection:
            self.sqlite = connection.dialect.name == "sqlite"
            if self.sqlite:
                found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all()
                for (name,) in found:
                    connection.exec_driver_sql(f"DROP TRIGGER {name}")

    def __call__(self, *_args: Any) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.vanish()

    def vanish(self) -> None:
        with self.engine.begin() as connection:
            if not self.sqlite:
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            for statement in self.statements:
                connection.execute(text(statement))

    @contextmanager
    def before(self, shop: Shop, point: int) -> Iterator[None]:
        """Let the rows vanish before this connection of the block."""
        self.at, self.seen = point, 0
        with shop.app.app_context():
            pool = db.engine.pool
        event.listen(pool, "checkout", self)
        try:
            yield
        finally:
            event.remove(pool, "checkout", self)

    @property
    def is_done(self) -> bool:
        """Return whether the block used fewer connections, so that nothing vanished."""
        return self.seen < self.at


def check(shop: Shop, page: Page, form: Form, when: str) -> None:
    key = shop.app.extensions["payonce"].tokens.read(form.fields["checkout_token"]).key
    taken = sum(entry.kind == "charge" for entry in shop.statement() if entry.key == str(key))
    assert page.status != 500, f"{when}: {page.heading}"
    assert taken <= 1, when
    if taken:
        assert not [words for words in DENIALS if words in page.text], f"{when}: {page.heading}"
    if page.heading.startswith("Paid"):
        assert taken, when


def test_a_charge_that_vanishes_while_the_bank_is_asked_leaves_a_trace(
    shop: Shop, app: Flask, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log is then the only place in the shop that knows of the money."""
    vanisher, press = Vanisher(shop, CHARGES), purchase(order())
    with pytest.raises(RowLost):
        protocol.pay(press, ScriptedGateway(meanwhile=vanisher.vanish), 1.0)
    vanisher.engine.dispose()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "charge_lost" in line]
    kept = {"key": str(press.token.key), "receipt": press.receipt_id[-8:].upper(), "amount": 2400, "currency": "EUR"}
    assert [line | kept for line in lines] == lines
    assert len(lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("repeated", [False, True], ids=["the payment", "its repetition"])
@pytest.mark.parametrize("what", VANISH)
def test_rows_that_vanish_at_any_point_never_make_a_false_page(shop: Shop, what: str, repeated: bool) -> None:
    vanisher = Vanisher(shop, VANISH[what])
    for point in range(1, MOST_POINTS):
        with shop.app.app_context():
            slug = product()
        shopper = shop.shopper()
        fill_basket(shopper, slug)
        form = checkout_form(shopper, email=f"{slug}@example.org")
        if repeated:
            form.submit()
        with vanisher.before(shop, point):
            page = form.submit()
        check(shop, page, form, f"{what} vanish before connection {point}")
        check(shop, form.submit(), form, f"sent again after {what} vanished before connection {point}")
        if vanisher.is_done:
            break
    assert 3 < point < MOST_POINTS - 1
    vanisher.engine.dispose()
