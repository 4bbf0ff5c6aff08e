"""Test data: shoppers with a filled basket, purchases ready to be paid, products, orders and form fields."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, update
from sqlalchemy.engine import Connection

from app.charges.models import Charge
from app.charges.protocol import Purchase
from app.charges.tokens import Token, new_key, new_receipt_id
from app.database import from_now, transaction
from app.gateways.base import Card
from app.gateways.sandbox.cards import last_four
from app.orders import basket
from app.orders.models import Order, Product
from tests.page import Form, Page, Shopper

MUG = "morning-mug"
BOWL = "supper-bowl"

APPROVES = "4242 4242 4242 4242"
DECLINES = "4000 0000 0000 0002"
NO_FUNDS = "4000 0000 0000 9995"
ASKS_SHOPPER = "4000 0025 0000 3155"
SLOW = "4000 0000 0006 0014"

SECRET = "a secret of the tests, long enough"
API_KEY = "the-key-of-the-tests-for-the-sandbox-bank"
SHOP_ID = "test-shop"


def fields(**changes: Any) -> dict[str, Any]:
    """Return valid values for the fields that a shopper fills in, with these changes."""
    return {
        "email": "ada@example.org", "name": "Ada Example",
        "card_number": APPROVES, "card_expiry": "12/49", "card_cvc": "123", **changes,
    }  # fmt: skip


def fill_basket(shopper: Shopper, slug: str = MUG, quantity: int = 1) -> Page:
    """Put a product into the basket from its page. Return the basket's page."""
    product_page = shopper.open(f"/products/{slug}")
    button = next(button.text for button in product_page.root.all("button"))
    page = product_page.submit(button, quantity=quantity)
    assert (page.statuses, page.path) == ([303, 200], "/basket")
    return page


def checkout_form(shopper: Shopper, **changes: Any) -> Form:
    """Return the filled checkout form. `submit()` and `post()` send it, as often as they are called."""
    return shopper.open("/checkout").form("Pay").fill(**fields(**changes))


def ready_to_pay(shopper: Shopper, slug: str = MUG, quantity: int = 1, **changes: Any) -> Form:
    """Put a product into the basket and return the filled checkout form."""
    fill_basket(shopper, slug, quantity)
    return checkout_form(shopper, **changes)


def product(slug: str | None = None, **columns: Any) -> str:
    """Insert a product, inside an app context. Return its slug."""
    row = {
        "slug": slug or f"thing-{uuid4().hex[:12]}", "name": "Thing", "description": "A thing.",
        "image": "morning-mug.svg", "price": 2400, "currency": "EUR", "stock": 100, "on_sale": True, **columns,
    }  # fmt: skip
    row.setdefault("stocked", row["stock"])
    with transaction() as tx:
        tx.execute(insert(Product).values(**row))
    return str(row["slug"])


def change_product(slug: str, **columns: Any) -> None:
    """Change columns of a product, as a merchant does. With `stock`, `stocked` becomes large enough for it."""
    if "stock" in columns:
        columns.setdefault("stocked", 1_000_000)
    with transaction() as tx:
        tx.execute(update(Product).where(Product.slug == slug).values(**columns))


def order(goods: dict[str, int] | None = None, buyer_id: UUID | None = None, currency: str = "EUR") -> Token:
    """Create an order, inside an app context. Return its token, as if its form had just been shown."""
    buyer_id = buyer_id or uuid4()
    with transaction() as tx:
        for slug, quantity in (goods or {MUG: 1}).items():
            basket.put(tx, buyer_id, slug, quantity, currency)
    return show_again(buyer_id)


def show_again(buyer_id: UUID) -> Token:
    """Return a new token for the buyer's newest order, as if its form was shown once more."""
    with transaction() as tx:
        found = basket.newest(tx, buyer_id)
        assert found is not None
        return Token(new_key(), found.random_id, found.version, buyer_id, found.total, found.currency, issued=0)


def purchase(token: Token, card: str = APPROVES, **changes: Any) -> Purchase:
    """Return the purchase of one press of the Pay button. `changes` are its other attributes."""
    email = f"{token.buyer_id.hex}@example.org"
    values = {
        "token": token, "receipt_id": new_receipt_id(), "email": email, "name": "Ada Example",
        "card": Card(card, "12/49", "123"), "last4": last_four(card), "order_again": False,
        "receipt_url": "http://127.0.0.1/receipts/1", **changes,
    }  # fmt: skip
    return Purchase(**values)


def presses(token: Token, times: int, **changes: Any) -> Sequence[Purchase]:
    """Return several presses of the Pay button of one form: the same token, each with a receipt id of its own."""
    return [purchase(token, **changes) for _ in range(times)]


def bare_charge(connection: Connection, order: Order) -> int:
    """Insert a charge for the order without a claim, for tests of orders alone. Return the charge's id."""
    row = {
        "key": new_key(), "receipt_id": new_receipt_id(), "order_id": order.id, "buyer_id": order.buyer_id,
        "status": "processing", "amount": 1, "currency": order.currency, "refunded": 0, "email": "a@example.org",
        "name": "A", "receipt_url": "x", "arrivals": 1, "other_arrivals": 0, "gateway": "sandbox", "account": "x",
        "ask_at": from_now(0), "times_asked": 0,
    }  # fmt: skip
    return int(connection.execute(insert(Charge).values(**row).returning(Charge.id)).scalar_one())
