"""What tests begin with: shoppers with a full basket, purchases ready to be paid, and the fields of the form."""

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


def fields(**changes: Any) -> dict[str, Any]:
    """The shopper's part of the checkout form, all in order but for the changes."""
    return {
        "email": "ada@example.org", "name": "Ada Example",
        "card_number": APPROVES, "card_expiry": "12/49", "card_cvc": "123", **changes,
    }  # fmt: skip


def fill_basket(shopper: Shopper, slug: str = MUG, quantity: int = 1) -> Page:
    """Open a product's page and put it into the basket; the basket."""
    form = shopper.open(f"/products/{slug}").root
    words = next(button.text for button in form.all("button"))
    page = shopper.open(f"/products/{slug}").submit(words, quantity=quantity)
    assert (page.statuses, page.path) == ([303, 200], "/basket")
    return page


def checkout_form(shopper: Shopper, **changes: Any) -> Form:
    """Open the checkout and fill the form: ready to be sent, by `.submit()` or `.post()`, as often as one likes."""
    return shopper.open("/checkout").form("Pay").fill(**fields(**changes))


def ready_to_pay(shopper: Shopper, slug: str = MUG, quantity: int = 1, **changes: Any) -> Form:
    """A filled basket and a filled form."""
    fill_basket(shopper, slug, quantity)
    return checkout_form(shopper, **changes)


def product(slug: str | None = None, **columns: Any) -> str:
    """Put a product on the shelves, inside an app context; its slug."""
    row = {
        "slug": slug or f"thing-{uuid4().hex[:12]}", "name": "Thing", "description": "A thing.",
        "image": "morning-mug.svg", "price": 2400, "currency": "EUR", "stock": 100, "on_sale": True, **columns,
    }  # fmt: skip
    row.setdefault("stocked", row["stock"])
    with transaction() as tx:
        tx.execute(insert(Product).values(**row))
    return str(row["slug"])


def change_product(slug: str, **columns: Any) -> None:
    """What a merchant does meanwhile: another price, another stock (raises what was stocked), off the shelves."""
    if "stock" in columns:
        columns.setdefault("stocked", 1_000_000)
    with transaction() as tx:
        tx.execute(update(Product).where(Product.slug == slug).values(**columns))


def order(goods: dict[str, int] | None = None, buyer_id: UUID | None = None, currency: str = "EUR") -> Token:
    """An order as if its form had just been shown, inside an app context: its token."""
    buyer_id = buyer_id or uuid4()
    with transaction() as tx:
        for slug, quantity in (goods or {MUG: 1}).items():
            basket.put(tx, buyer_id, slug, quantity, currency)
    return show_again(buyer_id)


def show_again(buyer_id: UUID) -> Token:
    """Another showing of the form of the buyer's order: another token for the same order."""
    with transaction() as tx:
        found = basket.newest(tx, buyer_id)
        assert found is not None
        return Token(new_key(), found.random_id, found.version, buyer_id, found.total, found.currency, issued=0)


def purchase(token: Token, card: str = APPROVES, **changes: Any) -> Purchase:
    """One press of the button of the form with this token."""
    email = f"{token.buyer_id.hex}@example.org"
    pressed = {
        "token": token, "receipt_id": new_receipt_id(), "email": email, "name": "Ada Example",
        "card": Card(card, "12/49", "123"), "last4": last_four(card), "order_again": False,
        "receipt_url": "http://127.0.0.1/receipts/1", **changes,
    }  # fmt: skip
    return Purchase(**pressed)


def presses(token: Token, times: int, **changes: Any) -> Sequence[Purchase]:
    """The same form, sent so often: one token, a receipt of its own for each."""
    return [purchase(token, **changes) for _ in range(times)]


def bare_charge(connection: Connection, order: Order) -> int:
    """Insert a charge for the order without a claim, for tests of the order alone. Return its id."""
    row = {
        "key": new_key(), "receipt_id": new_receipt_id(), "order_id": order.id, "buyer_id": order.buyer_id,
        "status": "processing", "amount": 1, "currency": order.currency, "refunded": 0, "email": "a@example.org",
        "name": "A", "receipt_url": "x", "arrivals": 1, "other_arrivals": 0, "gateway": "sandbox", "account": "x",
        "ask_at": from_now(0), "times_asked": 0,
    }  # fmt: skip
    return int(connection.execute(insert(Charge).values(**row).returning(Charge.id)).scalar_one())
